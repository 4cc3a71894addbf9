// docs/api.md and docs/indicators.md against what they describe.

import { readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { describe, expect, it } from "vitest";
import { FIELDS } from "../../collector/analysis/filter.ts";
import { DETECT_POINTS, PROTOCOLS, ROLES, TLS_MODES, UNKNOWN_REASONS } from "../../collector/analysis/side.ts";
import { ANALYZERS } from "../../collector/identity/chain.ts";
import { FAMILIES } from "../../collector/indicators/exposition.ts";
import { Indicators } from "../../collector/indicators/indicators.ts";
import { LABEL_NAMES, SUBJECT_KINDS, type SubjectKind } from "../../collector/indicators/subjects.ts";
import { TARGET_FAMILIES } from "../../collector/receiver/scrape/exposition.ts";
import {
  DROP_REASONS,
  EXPORT_DROP_REASONS,
  EXPORT_RETRY_REASONS,
  HANDSHAKE_FAILURES,
  LOG_DROP_REASONS,
  LOG_FAULT_REASONS,
  LOG_REASONS,
  METRICS_RESULTS,
  OTLP_REFUSALS,
  OTLP_REJECTIONS,
  OTLP_RESULTS,
  RELOAD_RESULTS,
  SCRAPE_RESULTS,
  SCRAPE_SKIP_REASONS,
  SelfMetrics,
  STREAM_ENDS,
  TLS_RELOAD_RESULTS,
} from "../../collector/self.ts";
import { LEFT_OUT_REASONS } from "../../collector/series/unified.ts";
import { readIndicators } from "../../collector/web/indicators.ts";
import { HINTS } from "../../collector/web/receivers.ts";
import { sourceOf } from "./indicators/source.ts";

const ROOT = resolve(import.meta.dirname, "../..");
const read = (path: string) => readFileSync(join(ROOT, path), "utf8");

/** First cells of the table under a heading, backquotes off. */
function rowsUnder(heading: string): string[] {
  const section =
    read("docs/api.md")
      .split(/^#+ /m)
      .find((text) => text.startsWith(`${heading}\n`)) ?? "";
  const rows = [...section.matchAll(/^\| (`.+?`) \|/gm)].map((row) => (row[1] as string).replaceAll("`", ""));
  return rows.filter((name) => !["how", "reason", "result", "hint", "rule"].includes(name));
}

it.each([
  ["How streams ended", STREAM_ENDS],
  ["Why entries are dropped", DROP_REASONS],
  ["Why reports are left out of mesh_*", LEFT_OUT_REASONS],
  ["How requests of OTLP end", OTLP_RESULTS],
  ["Why requests of OTLP are refused", OTLP_REFUSALS],
  ["Why records of OTLP are rejected", OTLP_REJECTIONS],
  ["How scrapes end", SCRAPE_RESULTS],
  ["How metrics reports end", METRICS_RESULTS],
  ["Why an end is unknown", UNKNOWN_REASONS],
  ["Hints", Object.values(HINTS)],
  ["Why lines of a scrape are passed over", SCRAPE_SKIP_REASONS],
  ["Why entries are kept", LOG_REASONS],
  ["Why kept entries are not in the store", LOG_DROP_REASONS],
  ["What keeps the log store from working", LOG_FAULT_REASONS],
  ["Why samples are not sent", EXPORT_DROP_REASONS],
  ["Why requests are sent again", EXPORT_RETRY_REASONS],
  ["How readings of Kubernetes objects end", RELOAD_RESULTS],
  ["How readings of changed certificates end", TLS_RELOAD_RESULTS],
  ["Why TLS handshakes fail", HANDSHAKE_FAILURES],
])("docs/api.md has a row for every label value: %s", (heading, values) => {
  expect(rowsUnder(heading)).toEqual([...values]);
});

it("docs/api.md has a row for every metric of the collector", async () => {
  const metrics = await new SelfMetrics("test").registry.getMetricsAsJSON();
  const names = metrics.map(({ name }) => name).filter((name) => name.startsWith("meshtally_"));
  expect(rowsUnder("The collector's own metrics").sort()).toEqual(names.sort());
});

it("docs/api.md has a row for every metric of the targets", () => {
  expect(rowsUnder("Targets")).toEqual(TARGET_FAMILIES.map(({ name }) => name));
});

it("docs/api.md has every field and every word of a tap's lines", () => {
  const section = read("docs/api.md").split("### What a line says\n")[1]?.split("### Why an end is unknown\n")[0] ?? "";
  const firstCells = [...section.matchAll(/^\| (`[^|]*`) \|/gm)].map((row) => row[1] as string);
  const named = firstCells.flatMap((cell) => [...cell.matchAll(/`(\w+)`/g)].map((match) => match[1] as string));
  const fields = [...FIELDS.keys()].flatMap((path) => path.split("."));
  expect(named.sort()).toEqual([...new Set(fields)].sort());
  for (const word of [...ANALYZERS, ...DETECT_POINTS, ...PROTOCOLS, ...ROLES, ...TLS_MODES]) {
    expect(section).toContain(`\`${word}\``);
  }
});

it("the examples scrape the admin port of envoy/sidecar.yaml", () => {
  const [, port] = /^admin:\n(?:.*\n)*?.*port_value: (\d+)/m.exec(read("envoy/sidecar.yaml")) ?? [];
  for (const path of ["docs/configuration.md", "deploy/collector.yaml"]) {
    expect(read(path)).toContain(`    - 127.0.0.1:${port}\n`);
  }
});

describe("docs/indicators.md", () => {
  const text = read("docs/indicators.md");

  it("has a row for every family, with its kind and help", () => {
    const rows = [...text.matchAll(/^\| `mesh_\*_(\w+)` \| (\w+) \| (.+?) \| (.+) \|$/gm)].map((row) =>
      row.slice(1, 4),
    );
    expect(rows).toEqual(FAMILIES.map(({ name, kind, help }) => [name, kind, help]));
  });

  it("has a row for every kind of subject, with its labels", () => {
    for (const kind of SUBJECT_KINDS) {
      const labels = LABEL_NAMES[kind].map((label) => `\`${label}\``).join(", ");
      expect(text).toContain(`\n| \`${kind}\` | ${labels} | `);
    }
  });

  it("asks PromQL for metrics and labels that there are", () => {
    const examples = /```promql\n(.*?)```/s.exec(text)?.[1] ?? "";
    const selectors = [...examples.matchAll(/\bmesh_([a-z]+)_(\w+)(?:\{(.*?)\})?/g)];
    expect(selectors.length).toBeGreaterThan(8);
    for (const [selector, kind, name = "", matchers = ""] of selectors) {
      const family = FAMILIES.find((each) => name === each.name || isPartOf(name, each));
      expect(family, selector).toBeDefined();
      const known = [...LABEL_NAMES[kind as SubjectKind], ...OWN_LABELS];
      expect(known, selector).toEqual(
        expect.arrayContaining([...matchers.matchAll(/(\w+)=/g)].map((match) => match[1])),
      );
    }
  });
});

const OWN_LABELS = ["success", "flag", "window", "quantile"];

/** `_sum` and `_count` of a summary. */
function isPartOf(name: string, family: (typeof FAMILIES)[number]): boolean {
  return family.kind === "summary" && [`${family.name}_sum`, `${family.name}_count`].includes(name);
}

it("docs/api.md has every field of an indicator, and its example has no other", async () => {
  const indicators = new Indicators({ limit: 1, endpointsPerService: 1, lateAfterMs: 120_000, retireAfterMs: 600_000 });
  const target = indicators.target({ point: "client", source: "web", destination: "api", instance: null });
  const connection = { isNew: true, receivedBytes: 1, sentBytes: 1, flags: [] };
  indicators.addConnection(target, indicators.slotOf(0, Date.now()), connection);
  const { body } = await readIndicators(sourceOf(indicators), new URLSearchParams({ kind: "edge" }), Date.now());
  const section = /^## Indicators\n(.*?)^## /ms.exec(read("docs/api.md"))?.[1] ?? "";
  const [example = "{}"] = /^\{\n(?:.*\n)*?\}$/m.exec(section) ?? [];
  expect(keysOf(JSON.parse(example))).toEqual(keysOf(body));
  const named = new Set([...section.matchAll(/`([\w.]+)`/g)].map((match) => match[1]));
  expect(keysOf(body).filter((key) => !named.has(key))).toEqual([]);
});

/** Of an answer, and of all that is in it. */
function keysOf(value: unknown): string[] {
  if (typeof value !== "object" || value === null) return [];
  if (Array.isArray(value)) return keysOf(value[0]);
  return Object.entries(value).flatMap(([key, each]) => [key, ...keysOf(each)]);
}
