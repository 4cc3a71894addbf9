// Which part may import which: this table is the diagram of docs/architecture.md, checked over every source file.

import { readdirSync, readFileSync } from "node:fs";
import { dirname, join, posix, relative, resolve } from "node:path";
import { expect, test } from "vitest";

const ROOT = resolve(import.meta.dirname, "..");

/** Part (longest prefix wins) -> the parts it may import besides itself. */
const ALLOWED: Record<string, readonly string[]> = {
  "filter/vocabulary": [],
  "filter/wire": [],
  "test/filter/expression/probe.ts": ["filter", "filter/wire", "filter/vocabulary"],
  filter: ["filter/wire", "filter/vocabulary"],
  "collector/vocabulary.ts": ["filter/vocabulary"],
  "collector/help.ts": ["collector/vocabulary.ts"],
  "collector/error.ts": [],
  "collector/log.ts": [],
  "collector/self.ts": [],
  "collector/config": [
    "collector/error.ts",
    "collector/identity/chain.ts",
    "collector/identity/names.ts",
    // What is configured there, and how it is written.
    "collector/analysis/apdex.ts",
    "collector/analysis/endpoints.ts",
    "collector/analysis/openapi.ts",
    "collector/analysis/path-template.ts",
    "collector/analysis/pattern.ts",
    "collector/analysis/policy.ts",
    "collector/tls/credentials.ts",
    "collector/logs/redact.ts",
    "collector/logs/rules.ts",
    "collector/series/histogram.ts",
    "collector/series/unified.ts",
    "collector/vocabulary.ts",
    "collector/client",
    "collector/out/settings.ts",
    "collector/out/otel-environment.ts",
  ],
  "collector/client": ["collector/error.ts", "collector/log.ts", "collector/receiver/log-limit.ts"],
  "collector/tls": ["collector/error.ts", "collector/log.ts", "collector/receiver/log-limit.ts", "collector/self.ts"],
  "collector/identity": ["collector/error.ts", "collector/log.ts", "collector/self.ts"],
  "collector/proto": ["collector/vocabulary.ts", "collector/error.ts"],
  "collector/ai": ["collector/proto", "collector/label-value.ts", "collector/self.ts"],
  "collector/otlp": [
    "collector/ai",
    "collector/proto",
    "collector/receiver",
    "collector/record/remembered.ts",
    "collector/tls",
    "collector/config",
    "collector/error.ts",
    "collector/log.ts",
    "collector/self.ts",
    "collector/vocabulary.ts",
  ],
  "collector/record": [
    "collector/proto",
    "collector/proxy-stats",
    "collector/resolver",
    "collector/series",
    "collector/vocabulary.ts",
    "collector/self.ts",
  ],
  "collector/resolver": ["collector/identity", "collector/proto", "collector/series", "collector/vocabulary.ts"],
  "collector/analysis": [
    "collector/identity",
    "collector/proto",
    "collector/record",
    "collector/resolver",
    "collector/series",
    "collector/vocabulary.ts",
    "collector/error.ts",
    "collector/indicators",
    "collector/self.ts",
  ],
  "collector/indicators": ["collector/label-value.ts"],
  "collector/proxy-stats": ["collector/label-value.ts"],
  "collector/label-value.ts": [],
  "collector/logs": [
    "collector/analysis",
    "collector/proto",
    "collector/resolver",
    "collector/error.ts",
    "collector/log.ts",
    "collector/self.ts",
    "collector/vocabulary.ts",
  ],
  "collector/out": [
    "collector/analysis/pattern.ts",
    "collector/client",
    "collector/completeness",
    "collector/indicators",
    "collector/proto",
    "collector/receiver/log-limit.ts",
    "collector/receiver/scrape.ts",
    "collector/receiver/scrape/exposition.ts",
    "collector/series",
    "collector/shards/shards.ts",
    "collector/error.ts",
    "collector/help.ts",
    "collector/log.ts",
    "collector/self.ts",
    "collector/vocabulary.ts",
  ],
  "collector/receiver": [
    "collector/analysis",
    "collector/client",
    "collector/identity",
    "collector/indicators",
    "collector/proto",
    "collector/proxy-stats",
    "collector/record",
    "collector/resolver",
    // By which bounds histograms are read, and how long the rows are that are kept of them.
    "collector/series/histogram.ts",
    "collector/series/shape.ts",
    "collector/tls",
    "collector/error.ts",
    "collector/label-value.ts",
    "collector/log.ts",
    "collector/self.ts",
    "collector/vocabulary.ts",
  ],
  "collector/series": ["collector/record/record.ts", "collector/self.ts", "collector/vocabulary.ts"],
  "collector/state": [
    "collector/ai",
    "collector/record/counter-resets.ts",
    "collector/record/record.ts",
    "collector/record/streamed-counts.ts",
    "collector/receiver/log-limit.ts",
    "collector/receiver/metrics-processes.ts",
    "collector/series",
    "collector/error.ts",
    "collector/log.ts",
    "collector/self.ts",
    "collector/vocabulary.ts",
  ],
  "collector/service-graph": ["collector/series", "collector/vocabulary.ts"],
  "collector/completeness": ["collector/label-value.ts", "collector/series", "collector/service-graph"],
  "collector/shards": [
    "collector/analysis",
    "collector/completeness",
    "collector/config",
    "collector/identity",
    "collector/indicators",
    "collector/logs",
    "collector/proto",
    "collector/receiver",
    "collector/record",
    "collector/resolver",
    "collector/series",
    "collector/state",
    "collector/error.ts",
    "collector/log.ts",
    "collector/self.ts",
    "collector/vocabulary.ts",
  ],
  "collector/web": [
    "collector/ai/metrics.ts",
    "collector/analysis",
    "collector/completeness",
    "collector/identity/lookup.ts",
    "collector/logs/log-query.ts",
    "collector/logs/store.ts",
    "collector/otlp/logs.ts",
    "collector/proto",
    "collector/proxy-stats",
    "collector/resolver",
    "collector/receiver/accounts.ts",
    "collector/receiver/entry-delay.ts",
    "collector/receiver/metrics-accounts.ts",
    "collector/receiver/scrape.ts",
    "collector/receiver/scrape/exposition.ts",
    "collector/series",
    "collector/service-graph",
    "collector/shards/shards.ts",
    "collector/indicators",
    "collector/label-value.ts",
    "collector/tls",
    "collector/self.ts",
    "collector/log.ts",
    "collector/error.ts",
    "collector/help.ts",
    "collector/vocabulary.ts",
  ],
  collector: ["collector/"],
  envoy: ["collector/vocabulary.ts", "collector/help.ts", "collector/series/unified.ts"],
  demo: ["envoy", "collector/vocabulary.ts"],
  "test/fixtures/trapping-filter.ts": ["filter", "filter/wire"],
  test: ["test/", "filter/vocabulary", "collector/", "envoy", "demo"],
};

/** Packages that only one file may import (for `yaml`, one per kind of file; of gRPC, one per end), so that each joint can be replaced in one place. */
const ONE_IMPORTER: Record<string, string | readonly string[]> = {
  "@duckdb/node-api": "collector/logs/duckdb.ts",
  "@grpc/grpc-js": ["collector/receiver/grpc.ts", "collector/out/grpc-transport.ts"], // server, client
  "prom-client": "collector/self.ts",
  snappyjs: "collector/out/snappy.ts",
  pino: "collector/log.ts",
  yaml: [
    "collector/config/yaml-text.ts",
    "collector/identity/files.ts",
    "collector/analysis/openapi.ts",
    "collector/receiver/scrape/file-sd.ts",
  ],
  ajv: "collector/config/schema-check.ts",
  "@solo-io/proxy-runtime": "filter/host.ts",
};

interface Import {
  readonly file: string;
  readonly target: string;
}

function sources(folder: string): string[] {
  return readdirSync(join(ROOT, folder), { withFileTypes: true, recursive: true })
    .filter((entry) => entry.isFile() && entry.name.endsWith(".ts"))
    .map((entry) => relative(ROOT, join(entry.parentPath, entry.name)));
}

function importsOf(file: string): Import[] {
  const text = readFileSync(join(ROOT, file), "utf8");
  const targets = [...text.matchAll(/^(?:import|export)\s[^;]*?from\s+"([^"]+)"/gms)].map(
    (match) => match[1] as string,
  );
  return targets.map((target) => ({
    file,
    target: target.startsWith(".") ? posix.normalize(posix.join(dirname(file), target)) : target,
  }));
}

function partOf(file: string): string {
  const parts = Object.keys(ALLOWED).filter((part) => file === part || file.startsWith(`${part}/`));
  return parts.sort((a, b) => b.length - a.length)[0] ?? file;
}

function isAllowed({ file, target }: Import): boolean {
  const part = partOf(file);
  const targetPart = partOf(target);
  if (part === targetPart) return true;
  return (ALLOWED[part] ?? []).some(
    (allowed) => target === allowed || targetPart === allowed || (allowed.endsWith("/") && target.startsWith(allowed)),
  );
}

const imports = ["filter", "collector", "envoy", "demo", "test"].flatMap((folder) =>
  sources(folder).flatMap(importsOf),
);

test("every file is read: the rules are checked over something", () => {
  expect(imports.length).toBeGreaterThan(100);
});

test("a part imports only what its line in the table names", () => {
  const local = imports.filter(({ target }) => target.endsWith(".ts"));
  expect(local.filter((each) => !isAllowed(each)).map(({ file, target }) => `${file} -> ${target}`)).toEqual([]);
});

test("each joint's package is imported by one file outside the tests", () => {
  const strays = imports.filter(({ file, target }) => {
    const pkg = Object.keys(ONE_IMPORTER).find((name) => target === name || target.startsWith(`${name}/`));
    return pkg !== undefined && !file.startsWith("test/") && ![ONE_IMPORTER[pkg]].flat().includes(file);
  });
  expect(strays.map(({ file, target }) => `${file} -> ${target}`)).toEqual([]);
});
