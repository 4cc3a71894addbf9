// docs/otlp.md and envoy/otlp/access-log.yaml against what is read.

import { execFile } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { expect, test } from "vitest";
import { parse } from "yaml";
import { isKnownAttribute } from "../../../collector/otlp/access-log.ts";
import * as fields from "../../../collector/otlp/entry-fields.ts";
import { LABEL_ATTRIBUTES, METADATA_ATTRIBUTES } from "../../../collector/otlp/sender.ts";
import { socketAddress, tcpProxyConfig } from "../../../demo/telemetry-config.ts";
import { findEnvoy } from "../../../envoy/binary.ts";
import { projectRoot } from "../../../envoy/project.ts";

interface Logger {
  readonly typed_config: { readonly attributes: { readonly values: readonly { readonly key: string }[] } };
}
interface Snippet {
  readonly http: Logger;
  readonly tcp: Logger;
  readonly clusters: readonly object[];
}
const root = projectRoot();
const docs = readFileSync(join(root, "docs/otlp.md"), "utf8");
const snippet = parse(readFileSync(join(root, "envoy/otlp/access-log.yaml"), "utf8")) as Snippet;

/** Names in the first column of the table under a heading. */
function namesUnder(heading: string, column: number): Set<string> {
  const section = docs.split(/^## /m).find((text) => text.startsWith(`${heading}\n`)) ?? "";
  const cells = section.split("\n").map((line) => line.split(" | ")[column] ?? "");
  return new Set(cells.flatMap((cell) => [...cell.matchAll(/`([:\w./-]+)`/g)].map(([, name]) => name ?? "")));
}

test("every attribute that is read has its place in the table, and no other has", () => {
  const documented = [...namesUnder("Attributes", 0)].filter(
    (name) => !/^(http\.|gen_ai\.|mcp\.|Tcp$|-$|Envoy)/.test(name),
  );
  const tables = Object.values(fields).filter((each): each is fields.FieldTable => each instanceof Map);
  const certificates = fields.CERTIFICATE_FIELDS.map(([, table]) => table);
  for (const table of [...tables, ...certificates]) {
    for (const name of table.keys()) expect(documented, name).toContain(name);
  }
  const prose = ["/api/v1/receivers"];
  expect(documented.filter((name) => !isKnownAttribute(name) && !prose.includes(name))).toEqual([]);
});

test("so has every attribute of a resource", () => {
  const documented = namesUnder("Envoy", 1);
  const known = [...METADATA_ATTRIBUTES.values(), ...LABEL_ATTRIBUTES.values()].flat();
  expect(known.filter((name) => !documented.has(name))).toEqual([]);
});

test("the loggers to copy have attributes that are read, and a real Envoy takes them", {
  timeout: 60_000,
}, async () => {
  const { http, tcp, clusters } = snippet;
  for (const { typed_config } of [http, tcp]) {
    for (const { key } of typed_config.attributes.values) expect(isKnownAttribute(key), key).toBe(true);
  }
  const folder = mkdtempSync(join(tmpdir(), "meshtally-otlp-"));
  const file = join(folder, "envoy.json");
  const listener = {
    address: socketAddress("127.0.0.1:0"),
    filter_chains: [{ filters: [tcpProxyConfig("meshtally_otlp", { accessLogs: [http, tcp] as never })] }],
  };
  writeFileSync(file, JSON.stringify({ static_resources: { listeners: [{ name: "a", ...listener }], clusters } }));
  const args = ["--mode", "validate", "--disable-hot-restart", "-l", "error", "-c", file];
  const { stderr } = await promisify(execFile)(await findEnvoy(), args);
  rmSync(folder, { recursive: true });
  expect(stderr).toBe("");
});
