// Target groups of Prometheus' service discovery, as files and HTTP servers give them -> TargetSpec.
// https://prometheus.io/docs/prometheus/latest/http_sd/
//
//   [{ "targets": ["10.0.0.9:15090"], "labels": { "__metrics_path__": "/stats/prometheus", "__param_x": "1" } }]
//
// Labels that say how to read a target are honoured, and two of our own; all others are passed over: what is counted has the proxies'.

import { CollectorError, quote } from "../../error.ts";
import { specOf, type TargetSpec } from "./target-spec.ts";

const ADDRESS = "__address__";
const SCHEME = "__scheme__";
const METRICS_PATH = "__metrics_path__";
const PARAM_PREFIX = "__param_";
/** Node id of who is behind the target, for stats that do not name it. */
const NODE = "__meshtally_node__";
/** "false": no filter is to be expected there. */
const FILTER = "__meshtally_filter__";

const DEFAULT_PATH = "/stats/prometheus";

type Labels = Readonly<Record<string, string>>;

/** Throws CollectorError `message_malformed` that names the place and what was expected: `[0].targets[1]: found 5, expected ...`. */
export function readTargetGroups(value: unknown): TargetSpec[] {
  const groups = value ?? []; // an empty file
  if (!Array.isArray(groups)) throw malformed("the top", groups, "a list of target groups");
  return groups.flatMap((group, index) => readGroup(group, `[${index}]`));
}

function readGroup(group: unknown, at: string): TargetSpec[] {
  if (typeof group !== "object" || group === null) throw malformed(at, group, "a group with targets");
  const { targets, labels } = group as { targets?: unknown; labels?: unknown };
  if (!Array.isArray(targets)) throw malformed(`${at}.targets`, targets, "a list of addresses");
  const known = readLabels(labels ?? {}, `${at}.labels`);
  return targets.map((target, index) => {
    const place = `${at}.targets[${index}]`;
    if (typeof target !== "string") throw malformed(place, target, "an address such as 10.0.0.9:15090");
    return specOfLabels({ [ADDRESS]: target, ...known }, place);
  });
}

function readLabels(labels: unknown, at: string): Labels {
  if (typeof labels !== "object" || labels === null || Array.isArray(labels)) {
    throw malformed(at, labels, "labels with their values");
  }
  for (const [name, value] of Object.entries(labels)) {
    if (typeof value !== "string") throw malformed(`${at}.${name}`, value, "a text");
  }
  return labels as Labels;
}

function specOfLabels(labels: Labels, at: string): TargetSpec {
  const { [ADDRESS]: address = "", [SCHEME]: scheme = "http", [METRICS_PATH]: path = DEFAULT_PATH } = labels;
  if (scheme !== "http" && scheme !== "https") throw malformed(`${at} ${SCHEME}`, scheme, "http or https");
  if (!path.startsWith("/")) throw malformed(`${at} ${METRICS_PATH}`, path, "a path that begins with /");
  const base = `${scheme}://${address}`;
  if (!isAddress(base)) throw malformed(at, address, "an address such as 10.0.0.9:15090");
  const url = new URL(path.replaceAll("?", "%3F").replaceAll("#", "%23"), base);
  for (const [name, value] of Object.entries(labels)) {
    if (name.startsWith(PARAM_PREFIX)) url.searchParams.append(name.slice(PARAM_PREFIX.length), value);
  }
  return specOf(url.href, { nodeId: labels[NODE] || null, hasFilter: labels[FILTER] !== "false" });
}

/** Whether nothing stands in it but a host and a port. */
function isAddress(base: string): boolean {
  if (!URL.canParse(base) || /[@?#\\]/.test(base)) return false;
  const { pathname, hostname } = new URL(base);
  return pathname === "/" && hostname !== "" && !base.endsWith("/");
}

function malformed(at: string, found: unknown, expected: string): CollectorError {
  const text = typeof found === "string" ? found : (JSON.stringify(found) ?? "nothing");
  return new CollectorError("message_malformed", `${at}: found ${quote(text)}, expected ${expected}`);
}
