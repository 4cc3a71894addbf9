import { describe, expect, test } from "vitest";
import { type RecordFault, writeEntry } from "../../../collector/otlp/access-log.ts";
import { parseFilterState } from "../../../collector/otlp/filter-state.ts";
import { LABEL_ATTRIBUTES, METADATA_ATTRIBUTES, nodeIdOf, writeIdentifier } from "../../../collector/otlp/sender.ts";
import { decodeAlsMessage } from "../../../collector/proto/als.ts";
import { WireWriter } from "../../../collector/proto/wire-writer.ts";
import { LABELS_KEY } from "../../../collector/vocabulary.ts";
import { readMessage } from "../../fixtures/als.ts";
import type { Fields } from "../../fixtures/otlp.ts";

/** 2025-12-29T10:40:00.123456789Z */
const TIME_NS = 1_767_004_800_123_456_789n;
const START_TIME = { seconds: 1_767_004_800, nanos: 123_456_789 };

function fault(attributes: Fields): RecordFault | null {
  return writeEntry(new WireWriter(), { timeNs: TIME_NS, attributes: new Map(Object.entries(attributes)) as never });
}

/** The entry as Envoy's own .proto files read it. */
function entry(attributes: Fields): Fields {
  const writer = new WireWriter();
  expect(writeEntry(writer, { timeNs: TIME_NS, attributes: new Map(Object.entries(attributes)) as never })).toBeNull();
  const message = readMessage(writer.finish());
  const logs = (message["httpLogs"] ?? message["tcpLogs"]) as { readonly logEntry: Fields[] };
  return logs.logEntry[0] as Fields;
}

const HTTP = { method: "GET" };
const common = (attributes: Fields) => (entry({ ...HTTP, ...attributes })["commonProperties"] ?? {}) as Fields;
const request = (attributes: Fields) => (entry({ ...HTTP, ...attributes })["request"] ?? {}) as Fields;
const response = (attributes: Fields) => (entry({ ...HTTP, ...attributes })["response"] ?? {}) as Fields;
const tls = (attributes: Fields) => common(attributes)["tlsProperties"] as Fields;
const socket = (address: string, portValue: number) => ({ socketAddress: { address, portValue } });

describe("attributes become fields", () => {
  test("of both kinds of entries", () => {
    expect(common({})).toMatchObject({ startTime: START_TIME });
    expect(common({ duration: "1234" })).toMatchObject({ duration: { seconds: 1, nanos: 234_000_000 } });
    expect(common({ time_to_last_downstream_tx_byte: "1000000001" })).toMatchObject({
      timeToLastDownstreamTxByte: { seconds: 1, nanos: 1 },
    });
    expect(common({ upstream_cluster: "outbound|80||a", route_name: "r", stream_id: "s" })).toMatchObject({
      upstreamCluster: "outbound|80||a",
      routeName: "r",
      streamId: "s",
    });
    expect(common({ access_log_type: "DownstreamEnd" })).toMatchObject({ accessLogType: 6 });
    expect(common({ upstream_request_attempt_count: "3" })).toMatchObject({ upstreamRequestAttemptCount: 3 });
  });

  test.each([
    ["10.0.0.7:5432", socket("10.0.0.7", 5432)],
    ["[fd00::7]:443", socket("fd00::7", 443)],
    ["/var/run/app.sock", { pipe: { path: "/var/run/app.sock" } }],
    ["envoy://inner/10.0.0.7:80", { envoyInternalAddress: { serverListenerName: "inner", endpointId: "10.0.0.7:80" } }],
  ])("the address %s", (text, address) => {
    expect(common({ upstream_host: text })["upstreamRemoteAddress"]).toEqual(address);
  });

  test.each([
    ["-", undefined],
    ["UF,URX", { upstreamConnectionFailure: true, upstreamRetryLimitExceeded: true }],
    ["UAEX", { unauthorizedDetails: {} }],
    ["DR", { downstreamRemoteReset: true }],
    ["LH,DF", { failedLocalHealthcheck: true, dnsResolutionFailure: true }],
    ["NEWER", {}],
  ])("the response flags %s", (text, flags) => {
    expect(common({ response_flags: text })["responseFlags"]).toEqual(flags);
  });

  test("of TLS, where there was any", () => {
    expect(tls({})).toBeUndefined();
    expect(tls({ downstream_tls_version: "-", downstream_peer_uri_san: "" })).toBeUndefined();
    expect(
      tls({
        downstream_tls_version: "TLSv1.3",
        requested_server_name: "a",
        downstream_peer_uri_san: "spiffe://a,spiffe://b",
      }),
    ).toEqual({
      tlsVersion: 4,
      tlsSniHostname: "a",
      peerCertificateProperties: { subjectAltName: [{ uri: "spiffe://a" }, { uri: "spiffe://b" }] },
    });
    expect(tls({ downstream_local_subject: "CN=web" })).toEqual({ localCertificateProperties: { subject: "CN=web" } });
  });

  test("of a request and its answer", () => {
    expect(
      request({ authority: "a:80", path: "/p?q", request_headers_bytes: "12", bytes_received: 34, user_agent: "curl" }),
    ).toMatchObject({
      requestMethod: 1,
      authority: "a:80",
      path: "/p?q",
      requestHeadersBytes: 12,
      requestBodyBytes: 34,
      userAgent: "curl",
    });
    expect(response({ response_code: "503", response_headers_bytes: "5", bytes_sent: "6" })).toMatchObject({
      responseCode: { value: 503 },
      responseHeadersBytes: 5,
      responseBodyBytes: 6,
    });
    expect(entry({ ...HTTP, protocol: "HTTP/2" })).toMatchObject({ protocolVersion: 3 });
    expect(request({ method: "PURGE", path: "/" })).not.toHaveProperty("requestMethod");
  });

  test("headers and trailers, by OpenTelemetry's names", () => {
    expect(request({ "http.request.header.content-type": "application/grpc" })).toMatchObject({
      requestHeaders: { "content-type": "application/grpc" },
    });
    expect(response({ "http.response.header.x": "1", "http.response.trailer.grpc-status": "5" })).toMatchObject({
      responseHeaders: { x: "1" },
      responseTrailers: { "grpc-status": "5" },
    });
  });

  test("the filter's observation, byte for byte", () => {
    const bytes = Buffer.from([1, 0, 25, 0, 0xff, 0x80]);
    const type = "type.googleapis.com/google.protobuf.BytesValue";
    const json = JSON.stringify({ "@type": type, value: bytes.toString("base64") });
    const states = common({ "wasm.meshtally.observation": json })["filterStateObjects"] as Record<string, Fields>;
    expect(states["wasm.meshtally.observation"]).toMatchObject({ type_url: type });
    const { value } = states["wasm.meshtally.observation"] as { value: Uint8Array };
    expect(Buffer.from(value)).toEqual(Buffer.concat([Buffer.from([0x0a, bytes.length]), bytes]));
  });

  test("Envoy Gateway's names, and what an AI gateway adds", () => {
    const names = { ":authority": "a", "x-envoy-origin-path": "/v1/chat", "user-agent": "curl", "x-request-id": "r" };
    const fields = { authority: "a", path: "/v1/chat", userAgent: "curl", requestId: "r" };
    expect(entry(names)["request"]).toMatchObject(fields);
    const model = { "gen_ai.request.model": "gpt-5", "gen_ai.usage.input_tokens": "12" };
    expect(common(model)["customTags"]).toEqual(model);
  });

  test("tags that we know, and what nobody knows as tags", () => {
    expect(common({ upstream_peer_uri_san: "spiffe://a", tenant: "blue", empty: "-" })["customTags"]).toEqual({
      upstream_peer_uri_san: "spiffe://a",
      tenant: "blue",
    });
  });
});

describe("an entry is", () => {
  test.each<[string, Fields, "http" | "tcp"]>([
    ["of a connection by its type", { access_log_type: "TcpPeriodic", response_code: "0" }, "tcp"],
    ["of a request by its type", { access_log_type: "DownstreamEnd", bytes_sent: "1" }, "http"],
    ["of a request by its code", { response_code: "200", bytes_sent: "1" }, "http"],
    ["of a connection by its bytes alone", { bytes_sent: "1", method: "-" }, "tcp"],
  ])("%s", (_, attributes, kind) => {
    expect(entry(attributes)).toHaveProperty(kind === "http" ? "response" : "connectionProperties");
  });

  test("of a connection with what went over it", () => {
    expect(
      entry({ access_log_type: "TcpConnectionEnd", bytes_received: "4", bytes_sent: "9007199254740991" }),
    ).toMatchObject({
      connectionProperties: { receivedBytes: 4, sentBytes: Number.MAX_SAFE_INTEGER },
    });
  });

  test.each<[Fields, RecordFault]>([
    [{}, "not_access_log"],
    [{ "gen_ai.request.model": "m" }, "not_access_log"],
    [{ ...HTTP, response_code: "ok" }, "attribute_malformed"],
    [{ ...HTTP, duration: "1.5" }, "attribute_malformed"],
    [{ ...HTTP, duration: -1 }, "attribute_malformed"],
    [{ ...HTTP, bytes_sent: "99999999999999999999" }, "attribute_malformed"],
    [{ ...HTTP, access_log_type: "Someday" }, "attribute_malformed"],
    [{ ...HTTP, "wasm.meshtally.observation": "not json" }, "attribute_malformed"],
  ])("none of %j", (attributes, why) => {
    expect(fault(attributes)).toBe(why);
  });

  test("left out whole when it cannot be read: those around it stay", () => {
    const writer = new WireWriter();
    const write = (attributes: Fields) =>
      writeEntry(writer, { timeNs: 0n, attributes: new Map(Object.entries(attributes)) as never });
    write({ ...HTTP, path: "/1" });
    expect(write({ ...HTTP, path: "/2", downstream_tls_version: "TLSv1.3", bytes_sent: "x" })).toBe(
      "attribute_malformed",
    );
    write({ ...HTTP, path: "/3".repeat(100) });
    const message = decodeAlsMessage(writer.finish());
    expect(message?.httpEntries.length).toBe(4);
  });
});

describe("parseFilterState", () => {
  const any = (type: string, value: unknown) =>
    JSON.stringify({ "@type": `type.googleapis.com/google.protobuf.${type}`, value });

  test.each([
    [any("BytesValue", "AQI="), { bytes: Buffer.from([1, 2]) }],
    [any("StringValue", "text"), { text: "text" }],
    ['"AQI="', { bytes: Buffer.from([1, 2]) }],
    [any("Struct", { workload: "w" }), { struct: { texts: new Map([["workload", "w"]]), labels: new Map() } }],
    [
      JSON.stringify({ workload: "w", n: 3, labels: { app: "a", n: 3 } }),
      { struct: { texts: new Map([["workload", "w"]]), labels: new Map([["app", "a"]]) } },
    ],
    [any("BytesValue", "%%"), null],
    [any("BytesValue", 3), null],
    [any("Int64Value", "3"), null],
    ['{"@type":3}', null],
    ["3", null],
    ["[", null],
  ])("reads %s", (json, value) => {
    expect(parseFilterState(json)).toEqual(value);
  });
});

describe("a resource", () => {
  const identifier = (resource: Fields) => {
    const attributes = new Map(Object.entries(resource)) as never;
    const writer = new WireWriter();
    writeIdentifier(writer, nodeIdOf(attributes) ?? "", attributes);
    return decodeAlsMessage(writer.finish())?.identifier;
  };

  test("names the node and the log", () => {
    expect(identifier({ node_name: "sidecar~1", log_name: "meshtally_inbound" })).toMatchObject({
      nodeId: "sidecar~1",
      logName: "meshtally_inbound",
    });
  });

  test("has node metadata by either name, its own first", () => {
    for (const [key, names] of METADATA_ATTRIBUTES) {
      for (const name of names) {
        expect(identifier({ [name]: "x" })?.metadata.texts.get(key.toLowerCase()), name).toBe("x");
        expect(identifier({ [name]: "x", [key]: "own" })?.metadata.texts.get(key.toLowerCase()), name).toBe("own");
      }
    }
    for (const [key, names] of LABEL_ATTRIBUTES) {
      for (const name of names) expect(identifier({ [name]: "x" })?.metadata.labels.get(key), name).toBe("x");
    }
    expect(identifier({})?.metadata.texts.has(LABELS_KEY.toLowerCase())).toBe(false);
  });

  test.each([{}, { node_name: "" }, { node_name: 3 }, { node_name: "x".repeat(1025) }])(
    "names no node: %j",
    (resource) => {
      expect(nodeIdOf(new Map(Object.entries(resource)) as never)).toBeNull();
    },
  );
});
