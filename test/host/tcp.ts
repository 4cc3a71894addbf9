// TCP connections of the mesh of mesh.ts, productpage -> reviews, as each proxy sees them, and what was counted for them.

import { LABELS } from "../../filter/vocabulary/labels.ts";
import { EXCHANGE_METRICS, Exchange, TCP_METRICS, TcpMetric } from "../../filter/vocabulary/metrics.ts";
import { OBSERVATION, WASM_STATE_PREFIX } from "../../filter/vocabulary/peer-metadata.ts";
import type { TcpConnection } from "./connection.ts";
import type { Host, HostOptions } from "./host.ts";
import { PRODUCTPAGE_URI, REVIEWS_CLUSTER, REVIEWS_URI, startInbound, startOutbound } from "./mesh.ts";
import { readTcpObservation, type TcpObservation } from "./observation.ts";
import type { Series } from "./stats.ts";
import type { JsonObject } from "./struct.ts";

/** A connection from productpage, as reviews' inbound listener sees it. */
export const CONNECTION_FROM_PRODUCTPAGE = {
  sourceAddress: "127.0.1.1:40000",
  destinationAddress: "127.0.1.3:9080",
  cluster: { ...REVIEWS_CLUSTER, name: "inbound|9080||" },
  downstreamTls: { peer: PRODUCTPAGE_URI, local: REVIEWS_URI },
} as const;

/** An endpoint as istiod describes one that is in the mesh. */
export const MESH_ENDPOINT = { metadata: { "envoy.transport_socket_match": { tlsMode: "istio" } } } as const;

/** A connection to reviews, as productpage's outbound listener sees it: the peer understands the exchange. */
export const CONNECTION_TO_REVIEWS = {
  sourceAddress: "127.0.1.1:40000",
  destinationAddress: "10.0.0.3:9080",
  upstreamAddress: "127.0.1.3:9080",
  cluster: REVIEWS_CLUSTER,
  endpoint: MESH_ENDPOINT,
  upstreamTls: { peer: REVIEWS_URI, local: PRODUCTPAGE_URI },
} as const;

/** reviews' inbound filter with this configuration besides. */
export function startTcpInbound(configuration: JsonObject = {}, options: Partial<HostOptions> = {}): Host {
  const standard = { direction: "inbound", disable_host_header_fallback: true };
  return startInbound({ configuration: { ...standard, ...configuration }, ...options });
}

/** productpage's outbound filter, likewise. */
export function startTcpOutbound(configuration: JsonObject = {}, options: Partial<HostOptions> = {}): Host {
  return startOutbound({ configuration: { direction: "outbound", ...configuration }, ...options });
}

/** The series of one TCP metric, one per label set. */
export function tcpSeries(host: Host, metric: TcpMetric): Series[] {
  return host.series(TCP_METRICS[metric]?.name);
}

export interface TcpCounts {
  readonly opened: number;
  readonly closed: number;
  readonly sent: number;
  readonly received: number;
}

/** What all label sets together counted, or those with these labels. */
export function tcpCounts(host: Host, labels: Readonly<Record<string, string>> = {}): TcpCounts {
  const total = (metric: TcpMetric) => {
    const matching = tcpSeries(host, metric).filter((one) =>
      Object.entries(labels).every(([label, value]) => one.labels[label] === value),
    );
    return matching.reduce((sum, one) => sum + Number(one.value), 0);
  };
  return {
    opened: total(TcpMetric.Opened),
    closed: total(TcpMetric.Closed),
    sent: total(TcpMetric.SentBytes),
    received: total(TcpMetric.ReceivedBytes),
  };
}

/** Labels of the one label set that was opened; throws when there are more. */
export function tcpLabels(host: Host): Readonly<Record<string, string>> {
  const [first, ...more] = tcpSeries(host, TcpMetric.Opened);
  if (first === undefined || more.length > 0) throw new Error(`opened ${more.length + (first ? 1 : 0)} label sets`);
  return first.labels;
}

/** Istio's counters of the exchange, by name of Exchange; what is 0 is left out. */
export function exchangeCounts(host: Host): Partial<Record<keyof typeof Exchange, number>> {
  const counted = EXCHANGE_METRICS.map((metric, index) => {
    const value = host.series(metric).reduce((sum, one) => sum + Number(one.value), 0);
    return [Exchange[index], value] as const;
  });
  return Object.fromEntries(counted.filter(([, value]) => value > 0));
}

/** The observation that the connection carries now; undefined while nothing was reported for it. */
export function connectionObservation(connection: TcpConnection): TcpObservation | undefined {
  const bytes = connection.filterState.get(WASM_STATE_PREFIX + OBSERVATION);
  return bytes && readTcpObservation(bytes);
}

/** What the observations of connections add up to, as series: "metric {labels}" -> number, without zeros. */
export function observedSums(connections: readonly TcpConnection[]): Record<string, number> {
  const sums: Record<string, number> = {};
  for (const connection of connections) {
    const { parts = [], closed = 0 } = connectionObservation(connection) ?? {};
    for (const part of parts) {
      [1n, BigInt(closed), part.sentBytes, part.receivedBytes].forEach((number, metric) => {
        if (((part.metrics >> metric) & 1) === 0 || number === 0n) return;
        const key = `${TCP_METRICS[metric]?.name} ${JSON.stringify(part.labels)}`;
        sums[key] = (sums[key] ?? 0) + Number(number);
      });
    }
  }
  return sums;
}

/** The same of the stats; a label that a metric does not carry reads "". */
export function statSums(host: Host): Record<string, number> {
  const sums: Record<string, number> = {};
  TCP_METRICS.forEach(({ name }, metric) => {
    for (const series of tcpSeries(host, metric)) {
      const labels = Object.fromEntries(LABELS.map((label) => [label, series.labels[label] ?? ""]));
      if (series.value > 0n) sums[`${name} ${JSON.stringify(labels)}`] = Number(series.value);
    }
  });
  return sums;
}
