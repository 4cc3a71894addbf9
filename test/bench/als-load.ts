// The load of the access-log benchmark: a client process that sends messages of a sidecar's inbound log as fast as they are taken.

import * as grpc from "@grpc/grpc-js";
import { LABELS } from "../../collector/vocabulary.ts";
import { bytesState, encodeMessage, type Fields, structFields } from "../fixtures/als.ts";
import { encodeFlatNode } from "../fixtures/flat-node.ts";
import { encodeObservation } from "../fixtures/observation.ts";

export const ENTRIES_PER_MESSAGE = 20;
export const STREAMS = 4;
/** Messages that each stream goes round in, all entries different. */
const MESSAGES = 50;
/** Callers, each of several versions, so that a proxy holds some hundred label sets. */
const CALLERS = 40;

/** With the observation, or without: then the labels are derived from the other fields. */
export const LOAD_PATHS = ["observation", "derived"] as const;
export type LoadPath = (typeof LOAD_PATHS)[number];

const METHOD = "/envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs";
const PEER_LABELS = {
  app: "productpage",
  "service.istio.io/canonical-name": "productpage",
  "service.istio.io/canonical-revision": "v1",
  version: "v1",
};

/** Sends over STREAMS streams, each over a connection of its own as from so many proxies, until the parent process goes away; the parent says by message which path from now on. */
export function runLoad(port: number): void {
  let path: LoadPath = "observation";
  process.on("message", (next: LoadPath) => {
    path = next;
  });
  process.on("disconnect", () => process.exit(0));
  for (let stream = 0; stream < STREAMS; stream++) {
    const client = new grpc.Client(`127.0.0.1:${port}`, grpc.credentials.createInsecure(), {
      "grpc.use_local_subchannel_pool": 1,
    });
    const messages = { observation: encodeLoad(stream, "observation"), derived: encodeLoad(stream, "derived") };
    const call = client.makeClientStreamRequest(
      METHOD,
      (bytes: Buffer) => bytes,
      (bytes: Buffer) => bytes,
      () => {},
    );
    let sent = 0;
    const pump = () => {
      while (call.write(messages[path][sent++ % MESSAGES] as Buffer)) {}
    };
    call.write(encodeMessage({ identifier: identifier(stream) }));
    call.on("drain", pump);
    pump();
  }
}

/** The messages of one stream after its first. */
export function encodeLoad(stream: number, path: LoadPath): Buffer[] {
  return Array.from({ length: MESSAGES }, (_, message) => {
    const first = message * ENTRIES_PER_MESSAGE;
    const entries = Array.from({ length: ENTRIES_PER_MESSAGE }, (_, i) => entry(stream, first + i, path));
    return encodeMessage({ httpLogs: { logEntry: entries } });
  });
}

function identifier(stream: number): Fields {
  const metadata = {
    NAME: `reviews-v1-6d8b5f9c7-${stream}`,
    NAMESPACE: "default",
    WORKLOAD_NAME: "reviews-v1",
    CLUSTER_ID: "Kubernetes",
    LABELS: { app: "reviews", version: "v1", "service.istio.io/canonical-name": "reviews" },
  };
  const id = `sidecar~127.0.1.${stream}~reviews-v1.default~default.svc.cluster.local`;
  return { node: { id, cluster: "reviews.default", metadata: structFields(metadata) }, logName: "inbound" };
}

function entry(stream: number, serial: number, path: LoadPath): Fields {
  const caller = `productpage-v${serial % CALLERS}`;
  const principal = "spiffe://cluster.local/ns/default/sa/bookinfo-productpage";
  const ownPrincipal = "spiffe://cluster.local/ns/default/sa/bookinfo-reviews";
  const code = serial % 10 === 0 ? 503 : 200;
  const peer = encodeFlatNode({
    name: `${caller}-7d9f-${stream}`,
    namespace: "default",
    labels: PEER_LABELS,
    owner: `kubernetes://apis/apps/v1/namespaces/default/deployments/${caller}`,
    workloadName: caller,
    clusterId: "Kubernetes",
  });
  const states: Record<string, Fields> = { "wasm.downstream_peer": bytesState(peer) };
  if (path === "observation") states["wasm.meshtally.observation"] = bytesState(observation(caller, serial, code));
  return {
    commonProperties: {
      downstreamRemoteAddress: address(`127.0.2.${serial % 250}`, 40_000 + serial),
      downstreamLocalAddress: address("127.0.1.4", 9080),
      downstreamDirectRemoteAddress: address(`127.0.2.${serial % 250}`, 40_000 + serial),
      upstreamRemoteAddress: address("127.0.1.4", 9080),
      upstreamLocalAddress: address("127.0.0.1", 50_000 + (serial % 10_000)),
      tlsProperties: {
        tlsVersion: 4,
        tlsCipherSuite: { value: 4865 },
        tlsSniHostname: "outbound_.9080_._.reviews.default.svc.cluster.local",
        localCertificateProperties: { subjectAltName: [{ uri: ownPrincipal }] },
        peerCertificateProperties: { subjectAltName: [{ uri: principal }] },
      },
      startTime: { seconds: 1_767_225_600 + serial, nanos: 123_456_789 },
      timeToLastRxByte: { nanos: 40_000 + serial },
      timeToFirstUpstreamTxByte: { nanos: 400_000 + serial },
      timeToLastUpstreamTxByte: { nanos: 410_000 + serial },
      timeToFirstUpstreamRxByte: { nanos: 3_000_000 + serial },
      timeToLastUpstreamRxByte: { nanos: 3_100_000 + serial },
      timeToFirstDownstreamTxByte: { nanos: 3_200_000 + serial },
      timeToLastDownstreamTxByte: { nanos: 3_300_000 + serial },
      upstreamCluster: "inbound|9080||",
      routeName: "default",
      responseFlags: code === 200 ? {} : { upstreamConnectionFailure: true, upstreamRetryLimitExceeded: true },
      filterStateObjects: states,
      duration: { nanos: 1_000_000 * (serial % 200) },
      upstreamRequestAttemptCount: 1,
      streamId: `0b6c1c1e-6e0f-4b0e-9c1c-${String(serial).padStart(12, "0")}`,
      downstreamWireBytesSent: 600,
      downstreamWireBytesReceived: 700,
      upstreamWireBytesSent: 800,
      upstreamWireBytesReceived: 500,
      accessLogType: 6,
    },
    protocolVersion: 3,
    request: {
      requestMethod: 1,
      scheme: "http",
      authority: "reviews:9080",
      path: `/reviews/${serial}`,
      userAgent: "curl/8.5.0",
      requestId: `6f2b1c1e-6e0f-4b0e-9c1c-${String(serial).padStart(12, "0")}`,
      requestHeadersBytes: 500 + (serial % 50),
      downstreamHeaderBytesReceived: 300,
      upstreamHeaderBytesSent: 400,
    },
    response: {
      responseCode: { value: code },
      responseHeadersBytes: 180,
      responseBodyBytes: 379,
      responseCodeDetails: "via_upstream",
      upstreamHeaderBytesReceived: 150,
      downstreamHeaderBytesSent: 160,
    },
  };
}

/** The label set that the entry's other fields lead to. */
function observation(caller: string, serial: number, code: number): Buffer {
  const values: Record<string, string> = {
    reporter: "destination",
    source_workload: caller,
    source_canonical_service: "productpage",
    source_canonical_revision: "v1",
    source_workload_namespace: "default",
    source_principal: "spiffe://cluster.local/ns/default/sa/bookinfo-productpage",
    source_app: "productpage",
    source_version: "v1",
    source_cluster: "Kubernetes",
    destination_workload: "reviews-v1",
    destination_workload_namespace: "default",
    destination_principal: "spiffe://cluster.local/ns/default/sa/bookinfo-reviews",
    destination_app: "reviews",
    destination_version: "v1",
    destination_service: "reviews",
    destination_canonical_service: "reviews",
    destination_canonical_revision: "",
    destination_service_name: "reviews",
    destination_service_namespace: "default",
    destination_cluster: "Kubernetes",
    request_protocol: "http",
    response_code: String(code),
    grpc_response_status: "",
    response_flags: code === 200 ? "-" : "UF,URX",
    connection_security_policy: "mutual_tls",
  };
  return encodeObservation({
    startMs: 1_767_225_600_000,
    durationMs: serial % 200,
    requestBytes: 500 + (serial % 50),
    responseBytes: 559,
    labels: LABELS.map((label) => values[label] ?? ""),
  });
}

function address(ip: string, portValue: number): Fields {
  return { socketAddress: { address: ip, portValue } };
}
