// A mesh of two workloads, productpage -> reviews, as each of its proxies sees it: what the filter's tests start from.

import { LABELS } from "../../filter/vocabulary/labels.ts";
import { FAULTS_METRIC, HTTP_METRICS, HttpMetric, REASON_LABEL } from "../../filter/vocabulary/metrics.ts";
import {
  OBSERVATION,
  PEER_ID_HEADER,
  PEER_METADATA_HEADER,
  WASM_STATE_PREFIX,
} from "../../filter/vocabulary/peer-metadata.ts";
import type { HeaderPairs } from "./headers.ts";
import { type Host, type HostOptions, type HttpStream, PLAIN_REQUEST, PLAIN_RESPONSE, startFilter } from "./host.ts";
import { type Observation, readObservation } from "./observation.ts";
import type { Node } from "./property.ts";
import type { Series } from "./stats.ts";
import { decodeStruct, encodeStruct, type Json, type JsonObject, sortKeys } from "./struct.ts";

export const PRODUCTPAGE: Node = makeNode("productpage", "v1", "127.0.1.1");
export const REVIEWS: Node = makeNode("reviews", "v2", "127.0.1.3");

export const PRODUCTPAGE_URI = "spiffe://cluster.local/ns/default/sa/bookinfo-productpage";
export const REVIEWS_URI = "spiffe://cluster.local/ns/default/sa/bookinfo-reviews";

/** The cluster of reviews, as istiod describes it. */
export const REVIEWS_CLUSTER = {
  name: "outbound|9080||reviews.default.svc.cluster.local",
  metadata: {
    istio: { services: [{ host: "reviews.default.svc.cluster.local", name: "reviews", namespace: "default" }] },
  },
} as const;

/** Node metadata as an injector writes it: more than what is exchanged. */
export function makeNode(service: string, version: string, address: string): Node {
  const pod = `${service}-${version}-7d4f8c`;
  return {
    id: `sidecar~${address}~${pod}.default~default.svc.cluster.local`,
    cluster: `${service}.default`,
    metadata: {
      NAME: pod,
      NAMESPACE: "default",
      WORKLOAD_NAME: `${service}-${version}`,
      CLUSTER_ID: "Kubernetes",
      OWNER: `kubernetes://apis/apps/v1/namespaces/default/deployments/${service}-${version}`,
      LABELS: {
        app: service,
        version,
        "service.istio.io/canonical-name": service,
        "service.istio.io/canonical-revision": version,
        "pod-template-hash": "7d4f8c",
      },
      INSTANCE_IPS: address,
      ISTIO_VERSION: "1.29.0",
      MESH_ID: "cluster.local",
    },
  };
}

/** The node with some metadata replaced; undefined takes a key away. */
export function withMetadata(node: Node, changes: Readonly<Record<string, Json | undefined>>): Node {
  const entries = Object.entries({ ...node.metadata, ...changes });
  return {
    ...node,
    metadata: Object.fromEntries(entries.filter((entry): entry is [string, Json] => entry[1] !== undefined)),
  };
}

/** What a node sends of itself (ISTIO's reduced form), keys in order. */
export function exchangedMetadata(node: Node): JsonObject {
  const { NAME, NAMESPACE, WORKLOAD_NAME, CLUSTER_ID, OWNER, LABELS: labels } = node.metadata;
  const { "pod-template-hash": _, ...kept } = labels as Record<string, string>;
  return sortKeys({ NAME, NAMESPACE, WORKLOAD_NAME, CLUSTER_ID, OWNER, LABELS: kept } as JsonObject);
}

/** Header value of a metadata object. */
export function encodeMetadata(metadata: JsonObject): string {
  return encodeStruct(metadata).toString("base64");
}

/** Throws on a value that is no base64 of a Struct. */
export function decodeMetadata(value: string): JsonObject {
  if (!/^[A-Za-z0-9+/]*={0,2}$/.test(value) || value.length % 4 !== 0) throw new Error(`no padded base64: ${value}`);
  return decodeStruct(Buffer.from(value, "base64"));
}

/** Both exchange headers of a node. */
export function exchangeHeaders(node: Node, metadata: JsonObject = exchangedMetadata(node)): HeaderPairs {
  return [
    [PEER_ID_HEADER, node.id],
    [PEER_METADATA_HEADER, encodeMetadata(metadata)],
  ];
}

/** Starts reviews' inbound filter. */
export function startInbound(options: Partial<HostOptions> = {}): Host {
  const configuration = { direction: "inbound", disable_host_header_fallback: true };
  return startFilter({ node: REVIEWS, direction: "inbound", configuration, ...options });
}

/** Starts productpage's outbound filter. */
export function startOutbound(options: Partial<HostOptions> = {}): Host {
  return startFilter({
    node: PRODUCTPAGE,
    direction: "outbound",
    configuration: { direction: "outbound" },
    ...options,
  });
}

/** A request from productpage, as reviews' inbound listener sees it. */
export const FROM_PRODUCTPAGE = {
  requestHeaders: [...PLAIN_REQUEST, ...exchangeHeaders(PRODUCTPAGE)],
  routeName: "default",
  cluster: { ...REVIEWS_CLUSTER, name: "inbound|9080||" },
  downstreamTls: { peer: PRODUCTPAGE_URI, local: REVIEWS_URI },
} as const;

/** A request to reviews, as productpage's outbound listener sees it. */
export const TO_REVIEWS = {
  responseHeaders: [...PLAIN_RESPONSE, ...exchangeHeaders(REVIEWS)],
  routeName: "default",
  cluster: REVIEWS_CLUSTER,
  endpoint: {},
  upstreamTls: { peer: REVIEWS_URI, local: PRODUCTPAGE_URI },
} as const;

/** Names of the exchange headers that are in a map. */
export function exchangeHeaderNames(stream: HttpStream, map: "requestHeaders" | "responseHeaders"): string[] {
  return stream[map].pairs().flatMap(([name]) => (name.startsWith("x-envoy-peer-metadata") ? [name] : []));
}

/** istio_requests_total, one entry per label set. */
export function countedRequests(host: Host): Series[] {
  return host.series(HTTP_METRICS[HttpMetric.Requests]?.name);
}

/** Labels of the one label set that was counted; throws when there are more. */
export function countedLabels(host: Host): Readonly<Record<string, string>> {
  const [first, ...more] = countedRequests(host);
  if (first === undefined || more.length > 0) throw new Error(`counted ${more.length + (first ? 1 : 0)} label sets`);
  return first.labels;
}

/** Values of one label, one per label set, in the order in which the sets were first counted. */
export function countedValues(host: Host, label: string): string[] {
  return countedRequests(host).map((one) => one.labels[label] ?? "");
}

/** How many requests were counted with these labels, whatever the others say. */
export function countedWith(host: Host, labels: Readonly<Record<string, string>>): number {
  const matching = countedRequests(host).filter((one) =>
    Object.entries(labels).every(([label, value]) => one.labels[label] === value),
  );
  return matching.reduce((sum, one) => sum + Number(one.value), 0);
}

/** How many requests all label sets together counted. */
export function countedTotal(host: Host): number {
  return countedRequests(host).reduce((sum, one) => sum + Number(one.value), 0);
}

/** Faults by reason; what is 0 is left out. */
export function faults(host: Host): Record<string, number> {
  const counted = host.series(FAULTS_METRIC).filter((one) => one.value > 0n);
  return Object.fromEntries(counted.map((one) => [one.labels[REASON_LABEL] ?? "", Number(one.value)]));
}

export function observationOf(stream: HttpStream): Observation {
  const bytes = stream.filterState.get(WASM_STATE_PREFIX + OBSERVATION);
  if (bytes === undefined) throw new Error("the stream has no observation");
  return readObservation(bytes);
}

/** The overflow of what that reporter says of known sources. */
export function overflowLabels(reporter: string): Record<string, string> {
  return Object.fromEntries(LABELS.map((label) => [label, label === "reporter" ? reporter : "other"]));
}
