// Metric families of Envoy's own stats -> what they say of the proxy and of its clusters (proxy-stats/stats.ts).
//
//   cluster.outbound|80||b.default.svc.cluster.local.upstream_cx_active          its cluster in the name
//   cluster.upstream_cx_active  and a label {envoy.cluster_name="xds-grpc"}           or, emit_tags_as_labels, in a label
//   cluster.default.svc.cluster.local.upstream_cx_active  {envoy.cluster_name="outbound|80||b"}   which by Envoy's own regex ends at a dot
//   server.memory_allocated
//
// Of a scrape, names are Prometheus': each character that these do not have is `_`.
//
//   envoy_cluster_upstream_cx_active{envoy_cluster_name="xds-grpc"}
//   envoy_cluster_default_svc_cluster_local_upstream_cx_active{envoy_cluster_name="outbound|80||b"}
//   envoy_server_memory_allocated{}

import type { MetricFamilyReader } from "../proto/metric-family.ts";
import { PROXY_STATS, statIndex } from "../proxy-stats/stats.ts";

const CLUSTER_PREFIX = Buffer.from("cluster.");
const SERVER_PREFIX = Buffer.from("server.");
const CLUSTER_TAG = "envoy.cluster_name";
const DOT = 0x2e;
/** How all names of stats that are shown begin, of a scrape; and its label of the cluster. */
export const SHOWN_PREFIXES = ["envoy_cluster_", "envoy_server_"] as const;
export const CLUSTER_LABEL = "envoy_cluster_name";
/** No stat that is shown has a longer name. */
const MAX_STAT_BYTES = 32;

/** One value: of which stat (index into PROXY_STATS), of which cluster ("" for the server). */
export interface ProxyValue {
  readonly stat: number;
  readonly cluster: string;
  readonly value: number;
}

/** What the family's current metric says; null where it is none of those that are shown, or of another kind than they are. */
export function readProxyStat(family: MetricFamilyReader): ProxyValue | null {
  const { kind, counter, gauge } = family;
  if (kind !== "counter" && kind !== "gauge") return null;
  const named = isAt(family, CLUSTER_PREFIX) ? clusterStat(family) : serverStat(family);
  const value = kind === "counter" ? counter : gauge;
  if (named === null || PROXY_STATS[named.stat]?.kind !== kind || !Number.isFinite(value)) return null;
  return { ...named, value };
}

function serverStat(family: MetricFamilyReader): { stat: number; cluster: string } | null {
  if (!isAt(family, SERVER_PREFIX)) return null;
  const { bytes, nameStart, nameStop } = family;
  const start = nameStart + SERVER_PREFIX.length;
  const stat =
    nameStop - start > MAX_STAT_BYTES ? null : statIndex("server", bytes.toString("latin1", start, nameStop));
  return stat === null ? null : { stat, cluster: "" };
}

/** No stat has a dot, and clusters may have some. */
function clusterStat(family: MetricFamilyReader): { stat: number; cluster: string } | null {
  const { bytes, nameStart, nameStop } = family;
  const start = nameStart + CLUSTER_PREFIX.length;
  let dot = nameStop - 1;
  while (dot >= start && nameStop - dot <= MAX_STAT_BYTES && bytes[dot] !== DOT) dot--;
  if (nameStop - dot > MAX_STAT_BYTES) return null;
  const stat = statIndex("cluster", bytes.toString("latin1", dot + 1, nameStop));
  if (stat === null) return null;
  const inName = dot < start ? "" : bytes.toString("utf8", start, dot);
  const inLabel = clusterLabel(family);
  const cluster = inName === "" || inLabel === "" ? inName + inLabel : `${inLabel}.${inName}`;
  return cluster === "" ? null : { stat, cluster };
}

function clusterLabel({ bytes, labelCount, labelSpans }: MetricFamilyReader): string {
  for (let at = 0; at < labelCount * 4; at += 4) {
    if (bytes.toString("latin1", labelSpans[at], labelSpans[at + 1]) !== CLUSTER_TAG) continue;
    return bytes.toString("utf8", labelSpans[at + 2], labelSpans[at + 3]);
  }
  return "";
}

function isAt({ bytes, nameStart, nameStop }: MetricFamilyReader, prefix: Buffer): boolean {
  if (nameStop - nameStart < prefix.length) return false;
  for (let i = 0; i < prefix.length; i++) if (bytes[nameStart + i] !== prefix[i]) return false;
  return true;
}

const [CLUSTER_NAMES, SERVER_NAMES] = SHOWN_PREFIXES;
const CLUSTER_STATS = PROXY_STATS.filter(({ scope }) => scope === "cluster").map(({ name }) =>
  name.slice(CLUSTER_NAMES.length),
);

/**
 * What a scrape's sample says; null where it is none of those that are shown. `label`: CLUSTER_LABEL's value. `domain`: of the Kubernetes
 * cluster, "cluster.local".
 */
export function readScrapedStat(name: string, label: string, value: number, domain: string): ProxyValue | null {
  if (!Number.isFinite(value)) return null;
  if (name.startsWith(SERVER_NAMES)) {
    const stat = statIndex("server", name.slice(SERVER_NAMES.length));
    return stat === null ? null : { stat, cluster: "", value };
  }
  if (!name.startsWith(CLUSTER_NAMES) || label === "") return null;
  const rest = name.slice(CLUSTER_NAMES.length);
  const text = CLUSTER_STATS.find((each) => rest === each || rest.endsWith(`_${each}`));
  const stat = text === undefined ? null : statIndex("cluster", text);
  if (text === undefined || stat === null) return null;
  const inName = rest.slice(0, -text.length - 1);
  return { stat, cluster: inName === "" ? label : `${label}.${hostOf(inName, domain)}`, value };
}

/** What stood behind the cluster's first dot. A Kubernetes namespace has no dots; of other hosts nobody knows which `_` was a dash. */
function hostOf(inName: string, domain: string): string {
  const ofService = `_svc_${domain.replaceAll(/[^A-Za-z0-9]/g, "_")}`;
  if (!inName.endsWith(ofService)) return inName.replaceAll("_", ".");
  return `${inName.slice(0, -ofService.length).replaceAll("_", "-")}.svc.${domain}`;
}
