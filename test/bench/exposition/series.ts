// The store of bench:exposition: label sets as a mesh of some hundred services has them, over HTTP and TCP, with counts.

import { packLabels } from "../../../collector/series/key.ts";
import { SeriesStore } from "../../../collector/series/store.ts";
import type { Readings } from "../../../collector/shards/shards.ts";
import { isTcpLabel, LABELS, Label } from "../../../collector/vocabulary.ts";

/** A counter, and three histograms of 22 lines each; of every second one, a source's, in mesh_*, too. */
const LINES_PER_HTTP_PAIR = 3 * 67;
const LINES_PER_TCP_PAIR = 3 * 4;
const TCP_PAIRS = 700;
const REQUESTS_PER_LABEL_SET = 40;
const NAMES = [
  "checkout-gateway-service",
  "product-catalog-search",
  "recommendation-engine",
  "payment",
  "inventory-sync",
];
const NAMESPACES = ["storefront-production", "payments-production", "logistics-production-eu", "default"];
const CLUSTER = "prod-eu-central-1-kubernetes-blue";

function workload(index: number) {
  const name = `${NAMES[index % NAMES.length]}-${index}`;
  return {
    name,
    namespace: NAMESPACES[index % NAMESPACES.length] as string,
    version: `release-2026-11-${10 + (index % 3)}`,
  };
}

/** Of a call that one workload makes to another; every second one is reported by the other side. */
function labelValues(index: number, isTcp: boolean): string[] {
  const from = workload(index % 400);
  const to = workload((index * 7) % 397);
  const principal = ({ name, namespace }: typeof from) => `spiffe://cluster.local/ns/${namespace}/sa/${name}`;
  const values = LABELS.map(() => "");
  const set = (label: Label, value: string) => {
    values[label] = isTcp && !isTcpLabel(label) ? "" : value;
  };
  set(Label.Reporter, index % 2 === 0 ? "source" : "destination");
  set(Label.SourceWorkload, `${from.name}-${from.version}`);
  set(Label.SourceCanonicalService, from.name);
  set(Label.SourceCanonicalRevision, from.version);
  set(Label.SourceWorkloadNamespace, from.namespace);
  set(Label.SourcePrincipal, principal(from));
  set(Label.SourceApp, from.name);
  set(Label.SourceVersion, from.version);
  set(Label.SourceCluster, CLUSTER);
  set(Label.DestinationWorkload, `${to.name}-${to.version}`);
  set(Label.DestinationWorkloadNamespace, to.namespace);
  set(Label.DestinationPrincipal, principal(to));
  set(Label.DestinationApp, to.name);
  set(Label.DestinationVersion, to.version);
  set(Label.DestinationService, `${to.name}.${to.namespace}.svc.cluster.local`);
  set(Label.DestinationCanonicalService, to.name);
  set(Label.DestinationCanonicalRevision, to.version);
  set(Label.DestinationServiceName, to.name);
  set(Label.DestinationServiceNamespace, to.namespace);
  set(Label.DestinationCluster, CLUSTER);
  set(Label.RequestProtocol, isTcp ? "tcp" : "http");
  set(Label.ResponseCode, String(200 + Math.floor(index / 2)));
  set(Label.ResponseFlags, "-");
  set(Label.ConnectionSecurityPolicy, "mutual_tls");
  return values;
}

/** A store whose exposition has so many lines, and how many it has exactly. */
export function fillStore(lines: number): { store: SeriesStore; lines: number } {
  const tcpPairs = Math.min(TCP_PAIRS, Math.floor(lines / LINES_PER_HTTP_PAIR));
  const httpPairs = Math.round((lines - tcpPairs * LINES_PER_TCP_PAIR) / LINES_PER_HTTP_PAIR);
  const store = new SeriesStore({
    proxies: 10,
    labelSets: 1_000_000,
    cells: 1_000_000,
    connections: 10,
    retireAfterMs: 600_000,
  });
  for (let index = 0; index < 2 * httpPairs; index++) observeRequests(store, index);
  for (let index = 0; index < 2 * tcpPairs; index++) observeConnection(store, index);
  return { store, lines: httpPairs * LINES_PER_HTTP_PAIR + tcpPairs * LINES_PER_TCP_PAIR };
}

/** Spread over the buckets, of every size. */
function observeRequests(store: SeriesStore, index: number): void {
  const labelKey = packLabels(labelValues(index, false));
  for (let request = 1; request <= REQUESTS_PER_LABEL_SET; request++) {
    store.observe({
      proxy: "proxy",
      lifeMs: 1,
      labelKey,
      requests: 1,
      durationMs: (request * request * (1 + (index % 7))) % 20_000,
      requestBytes: 500 + ((request * 977 + index) % 5000),
      responseBytes: (request * 7919 + index * 31) % 300_000,
    });
  }
}

function observeConnection(store: SeriesStore, index: number): void {
  const labelKey = packLabels(labelValues(index, true));
  const parts = [{ labelKey, counts: [1, 1, 1000 + index * 4099, 5000 + index * 65_537] }];
  store.observeConnection({ proxy: "proxy", lifeMs: 1, connectionId: 0, streamId: "", isOver: true, parts });
}

/** What is read of a collector that has such a store and nothing else. */
export function readingsOf(store: SeriesStore): Readings {
  const holdings = {
    labelSets: { http: store.http.series.length, tcp: store.tcp.series.length },
    lives: 1,
    cells: { http: 0, tcp: 0 },
    overflowed: { http: 0, tcp: 0 },
    letGo: { http: 0, tcp: 0 },
    connections: 0,
    indicators: { subjects: {}, refused: {}, late: 0, ahead: 0 },
  };
  return {
    series: store,
    keptMinutes: 1,
    restored: async () => {},
    refresh: async () => {},
    metrics: async () => ({ subjects: () => [], holdings, others: [], completeness: { proxies: [], edges: [] } }),
    subjects: unused,
    accounts: unused,
    completeness: unused,
  };
}

export function unused(): never {
  throw new Error("not part of this bench");
}
