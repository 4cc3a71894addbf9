// The rules for Prometheus, by its own promtool: they are valid, each has a test, and what the tests say holds.

import { execFile } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, dirname, join } from "node:path";
import { promisify } from "node:util";
import { beforeAll, expect, test } from "vitest";
import { parse } from "yaml";
import { projectRoot } from "../../envoy/project.ts";
import { type FoundProgram, findDebianProgram } from "../tools/debian-program.ts";

const RULES = "deploy/prometheus";
const TESTS = "test/prometheus";

interface RuleFile {
  readonly groups: { readonly rules: { readonly record?: string; readonly alert?: string; readonly expr: string }[] }[];
}

function filesIn(folder: string): string[] {
  const names = readdirSync(join(projectRoot(), folder)).filter((name) => name.endsWith(".yml"));
  return names.map((name) => join(folder, name));
}

const read = (path: string) => readFileSync(join(projectRoot(), path), "utf8");
const ruleFiles = filesIn(RULES).filter((path) => !path.endsWith("prometheus.yml"));
const rules = ruleFiles.flatMap((path) => (parse(read(path)) as RuleFile).groups.flatMap((group) => group.rules));

let promtool: FoundProgram;
beforeAll(async () => {
  promtool = await findDebianProgram("promtool");
});

/** Rejects with what promtool says of a fault. */
async function run(...args: string[]): Promise<string> {
  const options = { cwd: projectRoot() };
  const { stdout, stderr } = await promisify(execFile)(promtool.path ?? "", args, options).catch(
    (error: { readonly stdout: string; readonly stderr: string }) => {
      throw new Error(`${error.stdout}${error.stderr}`);
    },
  );
  return stdout + stderr;
}

test("the configuration and the rules are valid", async ({ skip }) => {
  if (promtool.missing !== null) skip(promtool.missing);
  expect(await run("check", "config", `${RULES}/prometheus.yml`)).toContain("is valid prometheus config file syntax");
  expect(await run("check", "rules", ...ruleFiles)).not.toContain("FAILED");
});

test("the rules do what their tests say", async ({ skip }) => {
  if (promtool.missing !== null) skip(promtool.missing);
  const tests = filesIn(TESTS);
  const told = await run("test", "rules", ...tests);
  expect(told.match(/SUCCESS/g), told).toHaveLength(tests.length);
});

interface TestFile {
  readonly rule_files: readonly string[];
  readonly tests: readonly { readonly input_series: readonly InputSeries[] }[];
}

interface InputSeries {
  readonly series: string;
  readonly values: string | number;
}

/** As two pods report it, each half of it; what is no traffic as it is. */
function byPod({ series, values }: InputSeries): InputSeries[] {
  if (!/^mesh_(requests|request_|response_|tcp_)/.test(series)) return [{ series, values }];
  const half = (number: string) => String(Number(number) / 2);
  const halves = String(values).replace(/(?<!x)\b\d+(\.\d+)?/g, half);
  return ["web-1", "web-2"].map((pod) => {
    return { series: series.replace("{", `{pod="${pod}",namespace="ns",`), values: halves };
  });
}

test("the rules do the same where traffic is told by pod", async ({ skip }) => {
  if (promtool.missing !== null) skip(promtool.missing);
  const folder = mkdtempSync(join(tmpdir(), "meshtally-by-pod-"));
  // Those of mesh-from-proxies.yml are not for a collector.
  const tests = filesIn(TESTS).filter((path) => !path.includes("mesh-from-proxies"));
  let split = 0;
  const written = tests.map((path) => {
    const file = parse(read(path)) as TestFile;
    const all = file.tests.map((each) => ({ ...each, input_series: each.input_series.flatMap(byPod) }));
    split += all.flatMap(({ input_series }) => input_series.filter(({ series }) => series.includes("{pod="))).length;
    const ruleFiles = file.rule_files.map((rule) => join(projectRoot(), dirname(path), rule));
    const copy = join(folder, basename(path));
    writeFileSync(copy, JSON.stringify({ ...file, rule_files: ruleFiles, tests: all }));
    return copy;
  });
  expect(split).toBeGreaterThan(50);
  const told = await run("test", "rules", ...written).finally(() => rmSync(folder, { recursive: true }));
  expect(told.match(/SUCCESS/g), told).toHaveLength(tests.length);
});

test("each alert is tested, and so is each family that is recorded", () => {
  const tested = filesIn(TESTS).map(read).join("\n");
  const isTested = (name: string) => new RegExp(`(alertname: |expr: .*\\b|=~".*)${name}\\b`).test(tested);
  const names = rules.flatMap(({ record, alert }) => record ?? alert ?? []);
  expect(names.length).toBeGreaterThan(25);
  const viaOthers = [
    "mesh:error_budget:ratio",
    "edge:mesh_request_errors:rate5m",
    "service:mesh_request_errors:rate5m",
  ];
  expect(names.filter((name) => !isTested(name) && !viaOthers.includes(name))).toEqual([]);
});

test("every alert says how bad it is, what happened and what to do", () => {
  const alerts = rules.filter(({ alert }) => alert !== undefined);
  for (const alert of alerts) {
    expect(alert, alert.alert).toMatchObject({
      labels: { severity: expect.stringMatching(/^(critical|warning)$/) },
      annotations: { summary: expect.stringContaining("{{ $"), description: expect.stringMatching(/[.?]$/) },
    });
  }
});

test("docs/dashboards.md has each alert and each file", () => {
  const text = read("docs/dashboards.md");
  const rows = [...text.matchAll(/^\| `([^`]+)` \|/gm)].map((match) => match[1]);
  const alerts = rules.flatMap(({ alert }) => alert ?? []);
  expect(rows.filter((name) => /^Mesh/.test(name ?? ""))).toEqual(alerts);
  expect(rows).toEqual(expect.arrayContaining(ruleFiles.map((path) => path.slice(RULES.length + 1))));
});

test("alerts ask for metrics and recorded rules that there are", () => {
  const documented = [...read("docs/api.md").matchAll(/`(mesh\w+)`/g)].map((match) => match[1] as string);
  const recorded = rules.flatMap(({ record }) => record ?? []);
  const asked = rules
    .filter(({ alert }) => alert !== undefined)
    .flatMap(({ expr }) => [...expr.matchAll(/(?<![\w:])((?:service|edge|mesh)[\w]*:[\w:]+|mesh\w+_\w+)/g)])
    .map((match) => match[1] as string);
  expect(asked.length).toBeGreaterThan(20);
  expect(asked.filter((name) => ![...documented, ...recorded].includes(name))).toEqual([]);
});
