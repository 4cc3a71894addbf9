// The dashboards as Grafana would take them: valid, of no one Grafana, every query one that Prometheus parses.
// test/e2e/prometheus.test.ts runs the queries.

import { execFile } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { describe, expect, test } from "vitest";
import { ISTIO_QUERIES } from "../prometheus/istio-queries.ts";
import { kialiQueries } from "../prometheus/kiali-queries.ts";
import { type PanelJson, panelQueries, readDashboards, variableQueries } from "../prometheus/panels.ts";
import { findDebianProgram } from "../tools/debian-program.ts";

const dashboards = readDashboards();

function overlap(a: PanelJson["gridPos"], b: PanelJson["gridPos"]): boolean {
  return a.x < b.x + b.w && b.x < a.x + a.w && a.y < b.y + b.h && b.y < a.y + a.h;
}

const TRAFFIC = /\b(?:istio|mesh)_(?:requests|request|response|tcp)_\w+/g;
/** What stands before the parenthesis around what is added up; `without` would leave what it does not name. */
const AGGREGATION = /\b(?:sum|count)(?:\s+by\s*\([^()]*\))?\s*$/;

/** Whether the expression adds up over the labels that it does not name. */
function isSummed(expr: string, at: number): boolean {
  for (let i = at - 1, closed = 0; i >= 0; i--) {
    if (expr[i] === ")") closed++;
    else if (expr[i] === "(" && closed-- === 0) {
      closed = 0;
      if (AGGREGATION.test(expr.slice(0, i))) return true;
    }
  }
  return false;
}

test("every query of ours, Istio's and Kiali's adds traffic up, so that series by pod show the same", () => {
  // Kiali adds up by itself what it takes for health: from Istio's own metrics, too, it gets a series for each pod.
  const addsUpItself = "Kiali's health";
  const scope = { namespace: "default", cluster: "c", service: "s", workload: "w", app: "a" };
  const ours = dashboards.flatMap((dashboard) => [...panelQueries(dashboard, "1m"), ...variableQueries(dashboard)]);
  const queries = [...ours, ...ISTIO_QUERIES, ...kialiQueries(scope)];
  const found = queries.flatMap(({ place, expr }) =>
    [...expr.matchAll(TRAFFIC)].map(({ index }) => ({ place, expr, isSummed: isSummed(expr, index) })),
  );
  expect(found.length).toBeGreaterThan(200);
  expect(found.filter((each) => !each.isSummed && each.place !== addsUpItself)).toEqual([]);
  expect(isSummed("rate(istio_requests_total[1m])", 5)).toBe(false);
  expect(isSummed("sum(up) + rate(istio_requests_total[1m])", 15)).toBe(false);
});

test("there are four", () => {
  expect(dashboards.map(({ name }) => name)).toEqual(["collector.json", "mesh.json", "service.json", "workload.json"]);
});

describe.each(dashboards)("$name", (dashboard) => {
  const { json } = dashboard;
  const panels = json.panels.filter(({ type }) => type !== "row");

  test("is of no one Grafana: no id, a uid of its own, and a data source that is chosen", () => {
    expect(Object.keys(json)).not.toEqual(expect.arrayContaining(["id"]));
    expect(json.uid).toBe(`meshtally-${dashboard.name.replace(".json", "")}`);
    expect(json.uid).toMatch(/^[a-zA-Z0-9_-]{1,40}$/); // what Grafana takes
    expect(json.templating.list[0]).toMatchObject({ name: "datasource", type: "datasource", query: "prometheus" });
    const chosen = { type: "prometheus", uid: "$datasource" };
    const sources = [
      ...panels.flatMap(({ datasource, targets = [] }) => [datasource, ...targets.map((target) => target.datasource)]),
      ...json.templating.list.slice(1).map(({ datasource }) => datasource),
    ];
    expect(sources.filter((source) => JSON.stringify(source) !== JSON.stringify(chosen))).toEqual([]);
  });

  test("has panels that say what they tell, side by side", () => {
    expect(new Set(json.panels.map(({ id }) => id)).size).toBe(json.panels.length);
    expect(panels).toEqual(
      panels.map(() =>
        expect.objectContaining({ title: expect.any(String), description: expect.stringMatching(/\.$/) }),
      ),
    );
    for (const { title, fieldConfig, targets = [] } of panels) {
      expect(fieldConfig?.defaults.unit, title).toMatch(/^(reqps|percentunit|ms|s|bytes|Bps|cps|short)$/);
      expect(
        targets.map(({ legendFormat }) => legendFormat ?? "").filter((legend) => legend === ""),
        title,
      ).toEqual([]);
    }
    for (const [i, { title, gridPos }] of json.panels.entries()) {
      expect(gridPos.x + gridPos.w, title).toBeLessThanOrEqual(24);
      const others = json.panels.slice(i + 1).filter((other) => overlap(gridPos, other.gridPos));
      expect(others.map((other) => `${title} / ${other.title}`)).toEqual([]);
    }
  });

  test("asks with all of its variables, and what Prometheus can parse", async ({ skip }) => {
    const queries = [...panelQueries(dashboard, "1m"), ...variableQueries(dashboard)];
    expect(queries.length).toBeGreaterThan(15);
    expect(queries.filter(({ expr }) => expr.includes("$"))).toEqual([]);
    const { path, missing } = await findDebianProgram("promtool");
    if (missing !== null) return skip(missing);
    const folder = mkdtempSync(join(tmpdir(), "meshtally-dashboard-"));
    const rules = queries.map(({ place, expr }, i) => ({ record: `query_${i}`, expr, labels: { place } }));
    const file = join(folder, "queries.json"); // JSON is YAML
    writeFileSync(file, JSON.stringify({ groups: [{ name: dashboard.name, rules }] }));
    try {
      const { stdout } = await promisify(execFile)(path, ["check", "rules", file]);
      expect(stdout).toContain(`SUCCESS: ${queries.length} rules found`);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});
