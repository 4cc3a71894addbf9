// One access-log entry as Envoy 1.40 sends it (test/fixtures/envoy-als), made from a call in the mesh.

import { LABELS } from "../../../collector/vocabulary.ts";
import { bytesState, type Fields, structFields } from "../../fixtures/als.ts";
import { encodeFlatNode } from "../../fixtures/flat-node.ts";
import { encodeObservation } from "../../fixtures/observation.ts";
import { CLUSTER, type Endpoint, type Pod, type Workload } from "./mesh.ts";

/** With the filter's observation, or without: then labels are derived from the other fields, to the same label set. */
export const KINDS = ["observation", "derived"] as const;
export type Kind = (typeof KINDS)[number];

/** How a call ended. */
export interface Outcome {
  readonly code: number;
  /** Names of ResponseFlags' fields, and as labels have them. */
  readonly flags: Fields;
  readonly flagNames: string;
  /** "" of what is no gRPC. */
  readonly grpcStatus: string;
  /** Whether a server answered. */
  readonly isAnswered: boolean;
}

const NO_FLAGS = { flags: {}, flagNames: "-", grpcStatus: "", isAnswered: true };
export const OK: Outcome = { ...NO_FLAGS, code: 200 };
export const SUCCESSES: readonly Outcome[] = [
  OK,
  { ...NO_FLAGS, code: 200, grpcStatus: "0" },
  { ...NO_FLAGS, code: 201 },
  { ...NO_FLAGS, code: 204 },
  { ...NO_FLAGS, code: 304 },
];
export const ERRORS: readonly Outcome[] = [
  { ...NO_FLAGS, code: 404 },
  { ...NO_FLAGS, code: 429 },
  { ...NO_FLAGS, code: 500 },
  { ...NO_FLAGS, code: 504, flags: { upstreamRequestTimeout: true }, flagNames: "UT", isAnswered: false },
  { ...NO_FLAGS, code: 503, flags: { upstreamConnectionTermination: true }, flagNames: "UC", isAnswered: false },
];

/** The proxy that sends a stream of entries: a pod's sidecar, with the log of one of its listeners. */
export interface Sidecar {
  readonly direction: "inbound" | "outbound";
  readonly workload: Workload;
  readonly pod: Pod;
}

export interface Call {
  readonly peer: Workload;
  readonly peerPod: Pod;
  readonly endpoint: Endpoint;
  readonly outcome: Outcome;
  readonly durationNs: number;
  readonly requestBodyBytes: number;
  readonly responseBodyBytes: number;
  readonly port: number;
}

/** Of the seconds of an entry's start: five bytes as any time of this century. The sender writes the time of sending in its place. */
export const START_SECONDS = 0x6a_bc_de_f0;
/** The sender writes another end to it for each entry, both where it is the stream's and the request's id. */
export const STREAM_ID = "fb01c584-faac-49cd-8fbd-06f600000000";
/** When the proxies' filters began, in Unix milliseconds. */
const LIFE_MS = 1_790_000_000_000;
const HTTP_PORT = 9080;
const MILLISECOND_NS = 1_000_000;
const SECOND_NS = 1_000_000_000;

export function identifierOf({ direction, workload, pod }: Sidecar): Fields {
  const { service } = workload;
  const metadata = {
    CLUSTER_ID: CLUSTER,
    INSTANCE_IPS: pod.ip,
    LABELS: { ...labelsOf(workload), "security.istio.io/tlsMode": "istio" },
    NAME: pod.name,
    NAMESPACE: service.namespace,
    OWNER: `kubernetes://apis/apps/v1/namespaces/${service.namespace}/deployments/${workload.name}`,
    SERVICE_ACCOUNT: service.name,
    WORKLOAD_NAME: workload.name,
  };
  const id = `sidecar~${pod.ip}~${pod.name}.${service.namespace}~${service.namespace}.svc.cluster.local`;
  return {
    node: { id, cluster: `${service.name}.${service.namespace}`, metadata: structFields(metadata) },
    logName: direction,
  };
}

export function entryFields(sidecar: Sidecar, call: Call, kind: Kind): Fields {
  const { outcome, endpoint, durationNs } = call;
  const isGrpc = outcome.grpcStatus !== "";
  const serverName = serverOf(sidecar, call).service.host;
  return withoutDefaults({
    commonProperties: { ...commonOf(sidecar, call), ...extrasOf(sidecar, call, kind), duration: duration(durationNs) },
    protocolVersion: isGrpc ? 3 : 2,
    request: {
      requestMethod: isGrpc ? 3 : endpoint.method,
      scheme: "http",
      authority: `${serverName}:${HTTP_PORT}`,
      path: endpoint.path,
      userAgent: isGrpc ? "grpc-go/1.71.0" : "okhttp/4.12.0",
      requestId: STREAM_ID,
      requestHeadersBytes: 412,
      requestBodyBytes: call.requestBodyBytes,
      ...(isGrpc ? { requestHeaders: { "content-type": "application/grpc" } } : {}),
      upstreamHeaderBytesSent: 398,
      downstreamHeaderBytesReceived: 366,
    },
    response: {
      responseCode: { value: outcome.code },
      responseHeadersBytes: 186,
      responseBodyBytes: call.responseBodyBytes,
      ...(isGrpc ? { responseTrailers: { "grpc-status": outcome.grpcStatus } } : {}),
      responseCodeDetails: outcome.isAnswered ? "via_upstream" : "upstream_reset_before_response_started",
      upstreamHeaderBytesReceived: outcome.isAnswered ? 142 : 0,
      downstreamHeaderBytesSent: 164,
    },
  });
}

/** proto3 sends no zero, no empty text, and Envoy no empty message. */
function withoutDefaults(fields: Fields): Fields {
  const isDefault = (value: unknown) =>
    value === 0 || value === "" || (isMessage(value) && Object.keys(value).length === 0);
  const entries = Object.entries(fields).map(([name, value]) => [
    name,
    isMessage(value) ? withoutDefaults(value) : value,
  ]);
  return Object.fromEntries(entries.filter(([, value]) => !isDefault(value)));
}

function isMessage(value: unknown): value is Fields {
  return typeof value === "object" && value !== null && !Array.isArray(value) && !Buffer.isBuffer(value);
}

function commonOf(sidecar: Sidecar, call: Call): Fields {
  const isInbound = sidecar.direction === "inbound";
  const { pod, workload } = sidecar;
  const { peerPod, port, outcome, durationNs } = call;
  const client = isInbound ? address(peerPod.ip, port) : address(pod.ip, port);
  const part = (share: number) => duration(Math.floor(durationNs * share));
  return {
    downstreamRemoteAddress: client,
    downstreamLocalAddress: isInbound ? address(pod.ip, HTTP_PORT) : address(peerPod.ip, HTTP_PORT),
    downstreamDirectRemoteAddress: client,
    ...(isInbound ? { tlsProperties: tlsOf(workload, call.peer) } : {}),
    startTime: { seconds: START_SECONDS, nanos: (port * 15_401) % SECOND_NS },
    timeToLastRxByte: part(0.01),
    timeToFirstUpstreamTxByte: part(0.06),
    timeToLastUpstreamTxByte: part(0.07),
    ...(outcome.isAnswered ? { timeToFirstUpstreamRxByte: part(0.95), timeToLastUpstreamRxByte: part(0.96) } : {}),
    timeToFirstDownstreamTxByte: part(0.98),
    timeToLastDownstreamTxByte: part(0.99),
    upstreamRemoteAddress: isInbound ? address(pod.ip, HTTP_PORT) : address(peerPod.ip, HTTP_PORT),
    upstreamLocalAddress: isInbound ? address("127.0.0.6", port) : address(pod.ip, port),
    upstreamCluster: isInbound ? `inbound|${HTTP_PORT}||` : `outbound|${HTTP_PORT}||${call.peer.service.host}`,
    routeName: "default",
    responseFlags: outcome.flags,
    upstreamRequestAttemptCount: outcome.isAnswered ? 1 : 3,
    streamId: STREAM_ID,
    downstreamWireBytesSent: 186 + call.responseBodyBytes,
    downstreamWireBytesReceived: 412 + call.requestBodyBytes,
    upstreamWireBytesSent: 398 + call.requestBodyBytes,
    upstreamWireBytesReceived: outcome.isAnswered ? 142 + call.responseBodyBytes : 0,
    accessLogType: 6, // DownstreamEnd
  };
}

/** What tells of the peer; the facts that have no field of their own are custom tags where no filter observed. */
function extrasOf(sidecar: Sidecar, call: Call, kind: Kind): Fields {
  const isInbound = sidecar.direction === "inbound";
  const { service } = call.peer;
  const states: Record<string, Fields> = {
    [isInbound ? "wasm.downstream_peer" : "wasm.upstream_peer"]: bytesState(peerNode(call)),
  };
  if (kind === "observation") {
    states["wasm.meshtally.observation"] = bytesState(observation(sidecar, call));
    return { filterStateObjects: states };
  }
  const customTags = {
    upstream_peer_uri_san: service.principal,
    upstream_local_uri_san: sidecar.workload.service.principal,
    destination_service_host: service.host,
    destination_service_name: service.name,
    destination_service_namespace: service.namespace,
  };
  return { filterStateObjects: states, ...(isInbound ? {} : { customTags }) };
}

function tlsOf(own: Workload, peer: Workload): Fields {
  return {
    tlsVersion: 4,
    tlsCipherSuite: { value: 4865 },
    tlsSniHostname: `outbound_.${HTTP_PORT}_._.${own.service.host}`,
    localCertificateProperties: { subjectAltName: [{ uri: own.service.principal }] },
    peerCertificateProperties: { subjectAltName: [{ uri: peer.service.principal }] },
  };
}

function peerNode({ peer, peerPod }: Call): Buffer {
  return encodeFlatNode({
    name: peerPod.name,
    namespace: peer.service.namespace,
    labels: labelsOf(peer),
    workloadName: peer.name,
    clusterId: CLUSTER,
  });
}

function labelsOf({ service, version }: Workload): Record<string, string> {
  return {
    app: service.name,
    "service.istio.io/canonical-name": service.name,
    version,
  };
}

/** The label set that the entry's other fields lead to, as the filter counted it. */
function observation(sidecar: Sidecar, call: Call): Buffer {
  const isInbound = sidecar.direction === "inbound";
  const { outcome } = call;
  const server = serverOf(sidecar, call);
  const values: Record<string, string> = {
    reporter: isInbound ? "destination" : "source",
    ...sideLabels(isInbound ? "destination" : "source", sidecar.workload, ""),
    ...sideLabels(isInbound ? "source" : "destination", call.peer, "latest"),
    // A server's log names no service: it is the one that answers.
    destination_service: isInbound ? server.service.name : server.service.host,
    destination_service_name: server.service.name,
    destination_service_namespace: server.service.namespace,
    request_protocol: outcome.grpcStatus === "" ? "http" : "grpc",
    response_code: String(outcome.code),
    grpc_response_status: outcome.grpcStatus,
    response_flags: outcome.flagNames,
    connection_security_policy: isInbound ? "mutual_tls" : "unknown",
  };
  return encodeObservation({
    startMs: LIFE_MS,
    durationMs: Math.floor(call.durationNs / MILLISECOND_NS),
    requestBytes: 412 + call.requestBodyBytes,
    responseBytes: 186 + call.responseBodyBytes,
    labels: LABELS.map((label) => values[label] ?? ""),
  });
}

/** No pod has a label for its canonical revision: a proxy leaves its own open, and takes a peer's for the latest. */
function sideLabels(
  side: "source" | "destination",
  { service, name, version }: Workload,
  revision: string,
): Record<string, string> {
  return {
    [`${side}_workload`]: name,
    [`${side}_canonical_service`]: service.name,
    [`${side}_canonical_revision`]: revision,
    [`${side}_workload_namespace`]: service.namespace,
    [`${side}_principal`]: service.principal,
    [`${side}_app`]: service.name,
    [`${side}_version`]: version,
    [`${side}_cluster`]: CLUSTER,
  };
}

function serverOf(sidecar: Sidecar, call: Call): Workload {
  return sidecar.direction === "inbound" ? sidecar.workload : call.peer;
}

function duration(ns: number): Fields {
  return { seconds: Math.floor(ns / SECOND_NS), nanos: ns % SECOND_NS };
}

function address(ip: string, portValue: number): Fields {
  return { socketAddress: { address: ip, portValue } };
}
