// What is generated from the vocabulary, and into which files it goes.

import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { METRIC_HELP } from "../collector/help.ts";
import { UNIFIED_HTTP_METRICS, UNIFIED_TCP_METRICS } from "../collector/series/unified.ts";
import {
  BUILD_METRIC,
  EXCHANGE_METRICS,
  FAULT_REASONS,
  FAULTS_METRIC,
  HISTOGRAM_BOUNDS,
  HTTP_METRICS,
  LABELS,
  MESSAGE_METRICS,
  Metric,
  MetricKind,
  NODE_METRIC,
  REASON_LABEL,
  START_TIME_METRIC,
  TCP_METRICS,
} from "../collector/vocabulary.ts";
import { fillBlocks } from "./blocks.ts";
import { renderDashboard } from "./grafana/dashboard.ts";
import { DASHBOARDS } from "./grafana/dashboards.ts";
import { LABEL_TAGS, STATS_TAGS } from "./stats-tags.ts";
import { FAULT_HELP, LABEL_HELP } from "./vocabulary-help.ts";

/** A file that is generated, or has blocks that are: its path from the project's root, what it holds, and what it should hold. */
export interface GeneratedFile {
  readonly path: string;
  readonly current: string;
  readonly fresh: string;
}

const KIND_NAMES: readonly string[] = ["counter", "gauge", "histogram"];

/** Every block by the name in its marker. */
const BLOCKS: { readonly [name: string]: () => string[] } = {
  stats_tags: statsTags,
  extra_stat_tags: () => ["extraStatTags:", ...LABEL_TAGS.map(({ name }) => `  - ${name}`)],
  labels: labelsTable,
  metrics: metricsTable,
  unified_metrics: () => tableOf([...UNIFIED_HTTP_METRICS, ...UNIFIED_TCP_METRICS]),
  buckets: () => [`\`${HISTOGRAM_BOUNDS.join("`, `")}\`, \`+Inf\``],
  fault_reasons: faultReasonsTable,
};

/** All of them: each yaml in envoy/ and below, docs/metrics.md, and the dashboards. */
export async function readGeneratedFiles(root: string): Promise<GeneratedFile[]> {
  return [...(await readFilesWithBlocks(root)), ...(await readDashboards(root))];
}

async function readDashboards(root: string): Promise<GeneratedFile[]> {
  return Promise.all(
    DASHBOARDS.map(async (dashboard) => {
      const path = join("envoy", "grafana", `${dashboard.name}.json`);
      const current = await readFile(join(root, path), "utf8").catch((error: NodeJS.ErrnoException) => {
        if (error.code === "ENOENT") return "";
        throw error;
      });
      return { path, current, fresh: renderDashboard(dashboard) };
    }),
  );
}

async function readFilesWithBlocks(root: string): Promise<GeneratedFile[]> {
  const names = (await readdir(join(root, "envoy"), { recursive: true })).filter((name) => name.endsWith(".yaml"));
  const paths = [...names.sort().map((name) => join("envoy", name)), join("docs", "metrics.md")];
  return Promise.all(
    paths.map(async (path) => {
      const current = await readFile(join(root, path), "utf8");
      try {
        return { path, current, fresh: fillBlocks(current, renderBlock) };
      } catch (error: unknown) {
        throw new Error(`${path}: ${error instanceof Error ? error.message : String(error)}`, { cause: error });
      }
    }),
  );
}

/** The lines of a block: renderBlock("buckets"). Throws Error for a name that is none. */
function renderBlock(name: string): string[] {
  const render = BLOCKS[name];
  if (render === undefined) {
    throw new Error(`no generated block is named ${name}; there are ${Object.keys(BLOCKS).join(", ")}`);
  }
  return render();
}

function statsTags(): string[] {
  return [
    "stats_tags:",
    ...STATS_TAGS.flatMap(({ name, regex }) => [`  - tag_name: ${name}`, `    regex: '${regex}'`]),
  ];
}

function labelsTable(): string[] {
  const rows = LABELS.map((name, index) => [String(index + 1), `\`${name}\``, describe(LABEL_HELP, name)]);
  return table(["#", "label", "value"], rows);
}

function metricsTable(): string[] {
  const own = [
    ...MESSAGE_METRICS,
    ...TCP_METRICS,
    ...EXCHANGE_METRICS.map((name) => new Metric(name, MetricKind.Counter, "")),
    new Metric(BUILD_METRIC, MetricKind.Gauge, ""),
    new Metric(START_TIME_METRIC, MetricKind.Gauge, "milliseconds"),
    new Metric(NODE_METRIC, MetricKind.Gauge, ""),
    new Metric(FAULTS_METRIC, MetricKind.Counter, ""),
  ];
  return tableOf([...HTTP_METRICS, ...own]);
}

function tableOf(metrics: readonly Metric[]): string[] {
  const rows = metrics.map(({ name, kind, unit }) => [
    `\`${name}\``,
    KIND_NAMES[kind] ?? "",
    unit === "" ? "1" : unit,
    describe(METRIC_HELP, name),
  ]);
  return table(["metric", "kind", "unit", "what it measures"], rows);
}

function faultReasonsTable(): string[] {
  return table(
    [`\`${REASON_LABEL}\``, "what happened"],
    FAULT_REASONS.map((reason) => [`\`${reason}\``, describe(FAULT_HELP, reason)]),
  );
}

function describe(help: { readonly [name: string]: string | undefined }, name: string): string {
  const text = help[name];
  if (text === undefined) throw new Error(`${name} has no help text`);
  return text;
}

function table(titles: readonly string[], rows: readonly (readonly string[])[]): string[] {
  const line = (cells: readonly string[]) => `| ${cells.map((cell) => cell.replaceAll("|", "\\|")).join(" | ")} |`;
  return [line(titles), line(titles.map(() => "---")), ...rows.map(line)];
}
