// The dashboards as Grafana would take them: valid, of no one Grafana, every query one that Prometheus parses.
// test/e2e/prometheus.test.ts runs the queries.

import { execFile } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { describe, expect, test } from "vitest";
import { type PanelJson, panelQueries, readDashboards, variableQueries } from "../prometheus/panels.ts";
import { findDebianProgram } from "../tools/debian-program.ts";

const dashboards = readDashboards();

function overlap(a: PanelJson["gridPos"], b: PanelJson["gridPos"]): boolean {
  return a.x < b.x + b.w && b.x < a.x + a.w && a.y < b.y + b.h && b.y < a.y + a.h;
}

test("there are four", () => {
  expect(dashboards.map(({ name }) => name)).toEqual(["collector.json", "mesh.json", "service.json", "workload.json"]);
});

describe.each(dashboards)("$name", (dashboard) => {
  const { json } = dashboard;
  const panels = json.panels.filter(({ type }) => type !== "row");

  test("is of no one Grafana: no id, no uid, and a data source that is chosen", () => {
    expect(Object.keys(json)).not.toEqual(expect.arrayContaining(["id"]));
    expect(Object.keys(json)).not.toEqual(expect.arrayContaining(["uid"]));
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
