// Dashboard: what a Grafana dashboard is made of, and the JSON that Grafana 10 and later import.
// https://grafana.com/docs/grafana/latest/dashboards/build-dashboards/view-dashboard-json-model/
//
// Nothing in it is of one Grafana alone: no id; the uid is ours, so that a newer one takes the place of the former; the data source is a
// variable, and links go by tag.

export interface Dashboard {
  /** "mesh": the name of its file, without .json. */
  readonly name: string;
  readonly title: string;
  readonly description: string;
  readonly variables: readonly Variable[];
  readonly rows: readonly Row[];
}

/** Values of a label, several of which may be chosen; all by default. */
interface Variable {
  readonly name: string;
  readonly label: string;
  /** "label_values(istio_requests_total, destination_workload)" */
  readonly query: string;
  /** Cuts the value out of a result of query_result: `/app="([^"]+)"/`. */
  readonly regex?: string;
}

export interface Row {
  readonly title: string;
  readonly panels: readonly Panel[];
}

export interface Panel {
  readonly title: string;
  /** What it tells, for who does not know. */
  readonly description: string;
  /** `table`: one row for each label set, a column for each query. */
  readonly kind: "timeseries" | "stat" | "table";
  /** Grafana's name of it: reqps, percentunit, ms, bytes, Bps, short. */
  readonly unit: string;
  /** Of 24 columns. */
  readonly width: number;
  readonly queries: readonly Query[];
}

export interface Query {
  readonly expr: string;
  /** "{{source_workload}}"; of a table the title of the column. */
  readonly legend: string;
  /** Of a table's column, where it is not the panel's. */
  readonly unit?: string;
}

const DATASOURCE = { type: "prometheus", uid: "$datasource" } as const;
const TAG = "meshtally";
const HEIGHTS = { stat: 4, timeseries: 8, table: 10 } as const;
const COLUMNS = 24;

/** The text of its file. */
export function renderDashboard({ name, title, description, variables, rows }: Dashboard): string {
  const dashboard = {
    uid: `${TAG}-${name}`,
    title,
    description,
    tags: [TAG, "istio", "envoy"],
    editable: true,
    graphTooltip: 1,
    schemaVersion: 38,
    refresh: "30s",
    time: { from: "now-30m", to: "now" },
    timezone: "browser",
    links: [
      {
        type: "dashboards",
        title: "Meshtally",
        tags: [TAG],
        asDropdown: true,
        includeVars: true,
        keepTime: true,
      },
    ],
    templating: { list: [datasourceVariable(), ...variables.map(renderVariable)] },
    panels: layOut(rows),
  };
  return `${JSON.stringify(dashboard, null, 2)}\n`;
}

function datasourceVariable(): object {
  return { name: "datasource", label: "Data source", type: "datasource", query: "prometheus", hide: 0, refresh: 1 };
}

function renderVariable({ name, label, query, regex = "" }: Variable): object {
  return {
    name,
    label,
    type: "query",
    datasource: DATASOURCE,
    definition: query,
    query: { query, refId: name },
    regex,
    refresh: 2,
    sort: 1,
    multi: true,
    includeAll: true,
    allValue: ".*",
    current: { selected: true, text: ["All"], value: ["$__all"] },
  };
}

/** Rows one below the other; panels of a row from left to right, in as many lines as they need. */
function layOut(rows: readonly Row[]): object[] {
  const laid: object[] = [];
  let y = 0;
  for (const { title, panels } of rows) {
    const gridPos = { h: 1, w: COLUMNS, x: 0, y };
    laid.push({ id: laid.length + 1, type: "row", title, collapsed: false, panels: [], gridPos });
    y++;
    let x = 0;
    let height = 0;
    for (const panel of panels) {
      if (x + panel.width > COLUMNS) {
        y += height;
        x = 0;
        height = 0;
      }
      const h = HEIGHTS[panel.kind];
      laid.push(renderPanel(panel, laid.length + 1, { h, w: panel.width, x, y }));
      x += panel.width;
      height = Math.max(height, h);
    }
    y += height;
  }
  return laid;
}

function renderPanel(panel: Panel, id: number, gridPos: object): object {
  const { title, description, kind, unit, queries } = panel;
  return {
    id,
    type: kind,
    title,
    description,
    datasource: DATASOURCE,
    gridPos,
    fieldConfig: { defaults: { unit, ...(kind === "timeseries" && TIMESERIES) }, overrides: overridesOf(panel) },
    options: OPTIONS[kind],
    ...(kind === "table" && { transformations: tableOf(queries) }),
    targets: queries.map(({ expr, legend }, index) => ({
      refId: refId(index),
      datasource: DATASOURCE,
      expr,
      legendFormat: legend,
      ...(kind === "table" && { instant: true, range: false, format: "table" }),
    })),
  };
}

const TIMESERIES = { min: 0, custom: { drawStyle: "line", fillOpacity: 10, lineWidth: 1, showPoints: "never" } };

const OPTIONS = {
  timeseries: {
    legend: { displayMode: "table", placement: "bottom", calcs: ["mean", "max"], showLegend: true },
    tooltip: { mode: "multi", sort: "desc" },
  },
  stat: { reduceOptions: { calcs: ["lastNotNull"], fields: "", values: false }, colorMode: "value", graphMode: "area" },
  table: { showHeader: true, footer: { show: false } },
} as const;

function refId(index: number): string {
  return String.fromCharCode("A".charCodeAt(0) + index);
}

/** One row for each label set: Grafana names the columns of several queries `Value #A`, `Value #B`. */
function tableOf(queries: readonly Query[]): object[] {
  const named = queries.map(({ legend }, index) => [`Value #${refId(index)}`, legend]);
  return [
    { id: "merge", options: {} },
    { id: "organize", options: { excludeByName: { Time: true }, renameByName: Object.fromEntries(named) } },
  ];
}

function overridesOf({ kind, queries }: Panel): object[] {
  if (kind !== "table") return [];
  return queries
    .filter(({ unit }) => unit !== undefined)
    .map(({ legend, unit }) => ({
      matcher: { id: "byName", options: legend },
      properties: [{ id: "unit", value: unit }],
    }));
}
