// docs/api.md against what it describes.

import { readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { expect, it } from "vitest";
import { FIELDS } from "../../collector/analysis/filter.ts";
import { DETECT_POINTS, PROTOCOLS, ROLES, TLS_MODES, UNKNOWN_REASONS } from "../../collector/analysis/side.ts";
import { ANALYZERS } from "../../collector/identity/chain.ts";
import {
  DROP_REASONS,
  HANDSHAKE_FAILURES,
  LOG_DROP_REASONS,
  LOG_FAULT_REASONS,
  LOG_REASONS,
  RELOAD_RESULTS,
  SCRAPE_RESULTS,
  SCRAPE_SKIP_REASONS,
  SelfMetrics,
  STREAM_ENDS,
  TLS_RELOAD_RESULTS,
} from "../../collector/self.ts";
import { HINTS } from "../../collector/web/receivers.ts";

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
  ["How scrapes end", SCRAPE_RESULTS],
  ["Why an end is unknown", UNKNOWN_REASONS],
  ["Hints", Object.values(HINTS)],
  ["Why lines of a scrape are passed over", SCRAPE_SKIP_REASONS],
  ["Why entries are kept", LOG_REASONS],
  ["Why kept entries are not in the store", LOG_DROP_REASONS],
  ["What keeps the log store from working", LOG_FAULT_REASONS],
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
