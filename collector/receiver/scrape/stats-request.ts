// What is asked of a proxy: its stats, as far as they are read, and, where those do not say it, who it is.
// https://www.envoyproxy.io/docs/envoy/latest/operations/admin

import { type Metadata, metadataOfJson } from "../../proto/struct.ts";
import { PROXY_STATS, type ProxyStat } from "../../proxy-stats/stats.ts";
import type { LabelTexts } from "../../record/stats-labels.ts";
import type { StatsPage } from "../../record/stats-page.ts";
import { type LabelMessages, type Places, StatsProtobuf } from "../../record/stats-protobuf.ts";
import { StatsText } from "../../record/stats-text.ts";
import type { HistogramBounds } from "../../series/histogram.ts";
import {
  BUILD_PREFIX,
  BUILD_SUFFIX,
  FIELD_SEPARATOR,
  HTTP_METRICS,
  NODE_METRIC,
  START_TIME_METRIC,
  TCP_METRICS,
} from "../../vocabulary.ts";
import { type Agents, get, ScrapeFault } from "./http-get.ts";
import type { TargetSpec } from "./target-spec.ts";

const READ_METRICS = [...HTTP_METRICS, ...TCP_METRICS].map(({ name }) => name);

/**
 * What a proxy is to send, and nothing else. `usedonly` would leave out one thing more, and that is asked for: without hot restart (Envoy's
 * `--disable-hot-restart`), the gauge of its epoch is there and not used, and a gauge that is not there may be one of 1 that nobody shows.
 *
 * Envoy matches `filter` against the whole stat name, before it cuts the tags out (seen on 1.40.0):
 * `wasmcustom.reporter=.=source;.;...;.;istio_requests_total`, `wasmcustom.meshtally_filter_start_time_milliseconds`,
 * `wasmcustom.component.proxy.tag.73…;.meshtally_filter_node`, `access_logs.grpc_access_log.logs_written`.
 */
const NAME_FILTER =
  `${escapeDots(FIELD_SEPARATOR)}(${READ_METRICS.join("|")})$` +
  `|^wasmcustom\\.${START_TIME_METRIC}$` +
  `|^wasmcustom\\.${escapeDots(BUILD_PREFIX)}[0-9a-f]+${escapeDots(BUILD_SUFFIX)}${NODE_METRIC}$` +
  "|^server\\.hot_restart_epoch$" +
  "|^access_logs\\.grpc_access_log\\.logs_(written|dropped)$";
/** `cluster.outbound|80||b.default.svc.cluster.local.upstream_cx_active`, `server.memory_allocated`. */
const statsOf = (scope: ProxyStat["scope"]) =>
  PROXY_STATS.filter((stat) => stat.scope === scope).map(({ name }) => name.slice(`envoy_${scope}_`.length));
const OWN_FILTER =
  `|^cluster\\..+\\.(${statsOf("cluster").join("|")})$` + `|^server\\.(${statsOf("server").join("|")})$`;
const QUERY = `filter=${encodeURIComponent(NAME_FILTER)}`;
const QUERY_WITH_OWN = `filter=${encodeURIComponent(NAME_FILTER + OWN_FILTER)}`;

function escapeDots(text: string): string {
  return text.replaceAll(".", "\\.");
}

/** Envoy answers with text if it knows no protobuf. */
const ACCEPT =
  "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited, text/plain;version=0.0.4;q=0.5";
const PROTOBUF = /^application\/vnd\.google\.protobuf\b/;

const SERVER_INFO_MAX_BYTES = 4 * 1024 * 1024;

/** What is read of `/server_info` (envoy.admin.v3.ServerInfo). */
interface ServerInfo {
  readonly node?: { readonly id?: unknown; readonly metadata?: unknown };
  readonly command_line_options?: { readonly restart_epoch?: unknown };
}

/** Over all targets. */
export interface Shared {
  readonly agents: Agents;
  readonly texts: LabelTexts;
  readonly messages: LabelMessages;
  /** By which the collector counts. */
  readonly bounds: HistogramBounds;
  /** Of the Kubernetes cluster, where Envoy's own stats are read, too; else null. */
  readonly domain: string | null;
}

/** Asks for the stats; `places` are the target's. Rejects with ScrapeFault. */
export async function readStats(
  { statsUrl }: TargetSpec,
  { agents, texts, messages, bounds, domain }: Shared,
  places: Places,
  maxBytes: number,
  signal: AbortSignal,
): Promise<StatsPage> {
  let reader: StatsText | StatsProtobuf = new StatsText(texts, bounds, domain);
  await get({
    url: withQuery(statsUrl, domain === null ? QUERY : QUERY_WITH_OWN),
    agents,
    headers: { accept: ACCEPT },
    maxBytes,
    signal,
    open: (contentType) => {
      if (PROTOBUF.test(contentType)) reader = new StatsProtobuf(messages, places, maxBytes, bounds, domain);
      return (chunk) => reader.write(chunk);
    },
  });
  if (!reader.end())
    throw new ScrapeFault("malformed", "the stats are no delimited protobuf, or break off within a family");
  const { page } = reader;
  if (page.isContradictory) throw new ScrapeFault("malformed", "the stats name two nodes or start times");
  return page;
}

/** What the target's own parameters say, wins. */
function withQuery(statsUrl: string, query: string): string {
  const { searchParams } = new URL(statsUrl);
  if (searchParams.has("filter")) return statsUrl;
  return `${statsUrl}${searchParams.size > 0 ? "&" : "?"}${query}`;
}

/** The node id by `/server_info`. Rejects with ScrapeFault, for a process that took over from another one, too. */
export async function readNodeId({ serverInfoUrl }: TargetSpec, agents: Agents, signal: AbortSignal): Promise<string> {
  if (serverInfoUrl === null) {
    const shows = `${NODE_METRIC} and envoy_server_hot_restart_epoch`;
    throw new ScrapeFault("node_missing", `the stats do not have ${shows}, and there is no /server_info to ask`);
  }
  const { node, command_line_options: options } = await readServerInfo(serverInfoUrl, agents, signal);
  refuseHotRestarted(Number(options?.restart_epoch ?? 0));
  const id = node?.id;
  if (typeof id !== "string" || id === "") throw new ScrapeFault("node_missing", "/server_info names no node");
  return id;
}

/** The node's metadata by `/server_info`, if that is of this node; else none. Rejects with ScrapeFault. */
export async function readNodeMetadata(
  nodeId: string,
  { serverInfoUrl }: TargetSpec,
  agents: Agents,
  signal: AbortSignal,
): Promise<Metadata> {
  const none: Metadata = { texts: new Map(), labels: new Map() };
  if (serverInfoUrl === null) return none;
  const { node } = await readServerInfo(serverInfoUrl, agents, signal);
  return node?.id === nodeId ? metadataOfJson(node.metadata) : none;
}

async function readServerInfo(serverInfoUrl: string, agents: Agents, signal: AbortSignal): Promise<ServerInfo> {
  const chunks: Buffer[] = [];
  await get({
    url: serverInfoUrl,
    agents,
    headers: { accept: "application/json" },
    maxBytes: SERVER_INFO_MAX_BYTES,
    signal,
    open: () => (chunk) => chunks.push(chunk),
  });
  try {
    return (JSON.parse(Buffer.concat(chunks).toString("utf8")) ?? {}) as ServerInfo;
  } catch (error: unknown) {
    throw new ScrapeFault("malformed", "/server_info is no JSON", { cause: error });
  }
}

/** After a hot restart the counters go on from the old process's, under a new start time: its requests would count twice. */
export function refuseHotRestarted(epoch: number | null): void {
  if ((epoch ?? 0) === 0) return;
  throw new ScrapeFault("hot_restarted", "the process took over the counters of the one before it (hot restart)");
}
