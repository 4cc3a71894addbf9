// Metric families of Envoy's own stats -> what they say of the proxy and of its clusters (proxy-stats/stats.ts).
//
//   cluster.outbound|80||b.default.svc.cluster.local.upstream_cx_active          its cluster in the name
//   cluster.upstream_cx_active  and a label {envoy.cluster_name="xds-grpc"}           or, emit_tags_as_labels, in a label
//   cluster.default.svc.cluster.local.upstream_cx_active  {envoy.cluster_name="outbound|80||b"}   which by Envoy's own regex ends at a dot
//   server.memory_allocated

import type { MetricFamilyReader } from "../proto/metric-family.ts";
import { PROXY_STATS, statIndex } from "../proxy-stats/stats.ts";

const CLUSTER_PREFIX = Buffer.from("cluster.");
const SERVER_PREFIX = Buffer.from("server.");
const CLUSTER_TAG = "envoy.cluster_name";
const DOT = 0x2e;
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
