// The queries of the dashboards, read from the files that users import, with Grafana's variables filled in.

import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { projectRoot } from "../../envoy/project.ts";

export interface PanelQuery {
  /** "mesh.json: Edges (Requests)" */
  readonly place: string;
  readonly expr: string;
}

export interface DashboardFile {
  readonly name: string;
  readonly json: DashboardJson;
}

interface DashboardJson {
  readonly uid: string;
  readonly title: string;
  readonly templating: { readonly list: readonly VariableJson[] };
  readonly panels: readonly PanelJson[];
  readonly [field: string]: unknown;
}

interface VariableJson {
  readonly name: string;
  readonly type: string;
  readonly definition?: string;
  readonly datasource?: object;
}

export interface PanelJson {
  readonly id: number;
  readonly type: string;
  readonly title: string;
  readonly datasource?: object;
  readonly fieldConfig?: { readonly defaults: { readonly unit?: string } };
  readonly gridPos: { readonly x: number; readonly y: number; readonly w: number; readonly h: number };
  readonly targets?: readonly { readonly expr: string; readonly legendFormat: string; readonly datasource: object }[];
}

export function readDashboards(): DashboardFile[] {
  const folder = join(projectRoot(), "envoy", "grafana");
  const names = readdirSync(folder).filter((name) => name.endsWith(".json"));
  return names.map((name) => ({ name, json: JSON.parse(readFileSync(join(folder, name), "utf8")) }));
}

/** Of all panels, with every value of every variable chosen, as Grafana would send them. */
export function panelQueries({ name, json }: DashboardFile, rateInterval: string): PanelQuery[] {
  const variables = json.templating.list.map((variable) => variable.name);
  return json.panels.flatMap(({ title, targets = [] }) =>
    targets.map(({ expr, legendFormat }) => ({
      place: `${name}: ${title} (${legendFormat})`,
      expr: filledIn(expr, variables, rateInterval),
    })),
  );
}

/** What Grafana asks for the values of its variables. */
export function variableQueries({ name, json }: DashboardFile): PanelQuery[] {
  const variables = json.templating.list.map((variable) => variable.name);
  return json.templating.list.flatMap(({ name: variable, definition = "" }) => {
    const [, metric, label] = /^label_values\(([^,]+), (\w+)\)$/.exec(definition) ?? [];
    const [, query] = /^query_result\((.+)\)$/.exec(definition) ?? [];
    const expr = metric === undefined ? query : `count by (${label}) (${metric}{${label}!=""})`;
    return expr === undefined ? [] : [{ place: `${name}: $${variable}`, expr: filledIn(expr, variables, "1m") }];
  });
}

function filledIn(expr: string, variables: readonly string[], rateInterval: string): string {
  const filled = expr.replaceAll("$__rate_interval", rateInterval);
  return variables.reduce((text, variable) => text.replaceAll(`$${variable}`, ".*"), filled);
}
