import { describe, expect, test } from "vitest";
import { type CommonEntry, EntryScan, HttpEntry, TcpEntry } from "../../collector/proto/als-entry.ts";
import type { FilterState } from "../../collector/proto/map-entry.ts";
import {
  bytesState,
  encodeEntry,
  encodeTcpEntry,
  type Fields,
  lengthDelimited,
  readEntry,
  readTcpEntry,
  structState,
} from "../fixtures/als.ts";
import { randomEntry, randomTcpEntry } from "../fixtures/als-random.ts";
import { random } from "../property/random.ts";

const COMMON_PROPERTIES = 1;

function read(bytes: Buffer): HttpEntry | null {
  const entry = new HttpEntry();
  return entry.read(bytes, 0, bytes.length) ? entry : null;
}

function scan(bytes: Buffer): EntryScan | null {
  const found = new EntryScan();
  return found.read(bytes, 0, bytes.length) ? found : null;
}

describe("the oracle agrees", () => {
  test("on every field of 400 random entries", () => {
    const draw = random(2);
    for (let i = 0; i < 400; i++) {
      const bytes = encodeEntry(withAddresses(draw, randomEntry(draw)));
      const entry = read(bytes);
      expect(entry && fieldsOf(bytes, entry)).toEqual(expectedFields(readEntry(bytes)));
    }
  });

  test("on what the fast path looks for, whose bytes it then gives", () => {
    const draw = random(3);
    for (let i = 0; i < 400; i++) {
      const bytes = encodeEntry(randomEntry(draw));
      const found = scan(bytes);
      const common = readEntry(bytes)["commonProperties"] as Fields | undefined;
      expect(found?.accessLogType).toBe(common?.["accessLogType"] ?? 0);
      const state = statesOf(common)["wasm.meshtally.observation"];
      expect(found && bytesOf(bytes, found.observation)).toEqual(state === undefined ? null : unwrap(state));
    }
  });

  test("on every field of 400 random TCP entries", () => {
    const draw = random(4);
    for (let i = 0; i < 400; i++) {
      const bytes = encodeTcpEntry(randomTcpEntry(draw));
      const entry = new TcpEntry();
      expect(entry.read(bytes, 0, bytes.length)).toBe(true);
      expect(commonFieldsOf(bytes, entry)).toEqual(expectedTcpFields(readTcpEntry(bytes)));
      const found = scan(bytes);
      const { streamId = "", accessLogType = 0 } = (readTcpEntry(bytes)["commonProperties"] ?? {}) as Fields;
      expect(found?.accessLogType).toBe(accessLogType);
      expect(found?.streamId(bytes)).toBe((streamId as string).length > 128 ? "" : streamId);
    }
  });

  test("on entries whose messages come in pieces: they are merged", () => {
    const draw = random(4);
    for (let i = 0; i < 400; i++) {
      const bytes = Buffer.concat([0, 1].map(() => encodeEntry(withAddresses(draw, randomEntry(draw)))));
      const entry = read(bytes);
      expect(entry && fieldsOf(bytes, entry)).toEqual(expectedFields(readEntry(bytes)));
    }
  });
});

test("an entry read after another shows nothing of it", () => {
  const draw = random(5);
  const entry = new HttpEntry();
  const empty = expectedFields({});
  for (let i = 0; i < 100; i++) {
    const bytes = encodeEntry(withAddresses(draw, randomEntry(draw)));
    entry.read(bytes, 0, bytes.length);
    entry.read(Buffer.alloc(0), 0, 0);
    expect(fieldsOf(Buffer.alloc(0), entry)).toEqual(empty);
  }
});

test("the first URI names the certificate, DNS names before it do not", () => {
  const bytes = encodeEntry({
    commonProperties: {
      tlsProperties: {
        peerCertificateProperties: {
          subjectAltName: [{ dns: "a.example" }, { uri: "spiffe://a" }, { uri: "spiffe://b" }],
        },
        localCertificateProperties: { subject: "CN=none" },
      },
    },
  });
  expect(read(bytes)).toMatchObject({ downstreamPeerUriSan: "spiffe://a", downstreamLocalUriSan: "" });
});

test("of a name that is URI and DNS at once the last counts: it is a oneof", () => {
  const san = Buffer.concat([
    lengthDelimited(1, Buffer.from("spiffe://a")),
    lengthDelimited(2, Buffer.from("a.example")),
  ]);
  const bytes = lengthDelimited(COMMON_PROPERTIES, lengthDelimited(4, lengthDelimited(5, lengthDelimited(1, san))));
  expect(read(bytes)?.downstreamPeerUriSan).toBe("");
});

test("a flag that is taken back is not set, and flags are in the order of their numbers", () => {
  const flags = (fields: Fields) => encodeEntry({ commonProperties: { responseFlags: fields } });
  const setThenCleared = Buffer.concat([
    flags({ upstreamRetryLimitExceeded: true, noRouteFound: true }),
    lengthDelimited(COMMON_PROPERTIES, Buffer.from([0x82, 0x01, 2, 0x48, 0])), // no_route_found: false
    flags({ noHealthyUpstream: true }),
  ]);
  expect(read(setThenCleared)?.responseFlags).toEqual([2, 16]);
});

test("a flag of a newer Envoy is kept by its number", () => {
  const bytes = lengthDelimited(COMMON_PROPERTIES, Buffer.from([0x82, 0x01, 3, 0xc8, 0x02, 1]));
  expect(read(bytes)?.responseFlags).toEqual([41]);
});

test("flags beyond Envoy's 64 bits are none: however many there are, they cost no more than their bytes", () => {
  const flags = Array.from({ length: 100_000 }, (_, i) => varintField(65 + i));
  const bytes = lengthDelimited(COMMON_PROPERTIES, lengthDelimited(16, Buffer.concat([varintField(64), ...flags])));
  expect(read(bytes)?.responseFlags).toEqual([64]);
});

test("durations are cut to whole milliseconds, and negative ones are none", () => {
  const duration = (fields: Fields) => read(encodeEntry({ commonProperties: { duration: fields } }))?.duration;
  expect(duration({ seconds: 1, nanos: 1_999_999 })).toMatchObject({ isPresent: true, milliseconds: 1001 });
  expect(duration({ nanos: 999_999 })).toMatchObject({ isPresent: true, milliseconds: 0 });
  expect(duration({ seconds: -1, nanos: -5 })).toMatchObject({ isPresent: true, milliseconds: 0 });
  expect(duration({})).toMatchObject({ isPresent: true, milliseconds: 0 });
  expect(read(encodeEntry({}))?.duration).toMatchObject({ isPresent: false });
});

test.each([
  ["a socket address", { socketAddress: { address: "10.0.0.7", portValue: 80 } }, { ip: "10.0.0.7", port: 80 }],
  ["one without a port", { socketAddress: { address: "fd00::7" } }, { ip: "fd00::7", port: 0 }],
  ["a blank one", { socketAddress: { address: "", portValue: 80 } }, null],
  ["a pipe", { pipe: { path: "/run/db.sock" } }, null],
  ["an internal address", internal("10.0.0.7:8080"), { ip: "10.0.0.7", port: 8080 }],
  ["an internal address of IPv6", internal("[fd00::7]:8080"), { ip: "fd00::7", port: 8080 }],
  ["an internal address of three parts", internal("10.0.0.7:8080:x"), null],
  ["an internal address without an id", internal(""), null],
])("of %s, what is an IP and a port is read", (_name, address, expected) => {
  const bytes = encodeEntry({ commonProperties: { upstreamRemoteAddress: address } });
  expect(read(bytes)?.upstreamRemote.read(bytes)).toEqual(expected);
});

test("an address whose bytes are broken is none, and the entry goes on", () => {
  const bytes = common(lengthDelimited(13, Buffer.from([0x0a, 5])));
  expect(read(bytes)?.upstreamRemote.read(bytes)).toBeNull();
});

function internal(endpointId: string): Fields {
  return { envoyInternalAddress: { serverListenerName: "connect_originate", endpointId } };
}

test("a filter state of another type, or whose BytesValue is broken, is no peer, and the entry goes on", () => {
  const broken = { type_url: "type.googleapis.com/google.protobuf.BytesValue", value: Buffer.from([0x0a, 9]) };
  const other = { type_url: "type.googleapis.com/envoy.Other", value: Buffer.from([0x0a, 0]) };
  const untyped = { value: Buffer.from([0x0a, 0]) };
  for (const state of [broken, other, untyped]) {
    const bytes = encodeEntry({
      commonProperties: { filterStateObjects: { "wasm.upstream_peer": state }, upstreamCluster: "c" },
    });
    expect(read(bytes)).toMatchObject({ upstreamCluster: "c", wasmUpstreamPeer: { kind: "none" } });
  }
});

test("the type of a filter state is what follows the last slash", () => {
  const state = { ...bytesState(Buffer.from("x")), type_url: "any.example/google.protobuf.BytesValue" };
  const bytes = encodeEntry({ commonProperties: { filterStateObjects: { upstream_peer: state } } });
  expect(read(bytes)?.upstreamPeer.kind).toBe("bytes");
  const unlike = { ...state, type_url: "a/my.google.protobuf.BytesValue" };
  const bytesUnlike = encodeEntry({ commonProperties: { filterStateObjects: { upstream_peer: unlike } } });
  expect(read(bytesUnlike)?.upstreamPeer.kind).toBe("none");
});

test("an observation that is no BytesValue makes the entry malformed", () => {
  const bytes = encodeEntry({
    commonProperties: { filterStateObjects: { "wasm.meshtally.observation": structState({}) } },
  });
  expect(scan(bytes)).toBeNull();
});

test("the fast path does not look into request and response, the slow path does", () => {
  const bytes = Buffer.concat([encodeEntry({ commonProperties: {} }), lengthDelimited(3, Buffer.from([0x0a, 9]))]);
  expect(scan(bytes)).not.toBeNull();
  expect(read(bytes)).toBeNull();
});

test.each([
  ["the entry", Buffer.from([0x0a, 5])],
  ["common_properties", common(Buffer.from([0x0a, 5]))],
  ["tls_properties", common(lengthDelimited(4, Buffer.from([0x0a, 5])))],
  ["a certificate", common(lengthDelimited(4, lengthDelimited(4, Buffer.from([0x0a, 5]))))],
  ["a subject alternative name", common(lengthDelimited(4, lengthDelimited(5, lengthDelimited(1, Buffer.from([9])))))],
  ["a duration", common(lengthDelimited(23, Buffer.from([0x08])))],
  ["the time to the last byte", common(lengthDelimited(12, Buffer.from([0x08])))],
  ["response_flags", common(lengthDelimited(16, Buffer.from([0x08])))],
  ["a filter state's map entry", common(lengthDelimited(21, Buffer.from([0x0a, 5])))],
  [
    "a peer's Any",
    common(
      lengthDelimited(
        21,
        Buffer.concat([lengthDelimited(1, Buffer.from("upstream_peer")), lengthDelimited(2, Buffer.from([0x0a, 5]))]),
      ),
    ),
  ],
  ["a custom tag", common(lengthDelimited(22, Buffer.from([0x0a, 5])))],
  ["the request", lengthDelimited(3, Buffer.from([0x0a, 5]))],
  ["a request header", lengthDelimited(3, lengthDelimited(13, Buffer.from([0x0a, 5])))],
  ["the response", lengthDelimited(4, Buffer.from([0x0a, 5]))],
  ["the response code", lengthDelimited(4, lengthDelimited(1, Buffer.from([0x08])))],
  ["a response header", lengthDelimited(4, lengthDelimited(4, Buffer.from([0x0a, 5])))],
  ["a response trailer", lengthDelimited(4, lengthDelimited(5, Buffer.from([0x0a, 5])))],
])("with %s broken the entry is malformed", (_name, bytes) => {
  expect(read(bytes)).toBeNull();
});

function withAddresses(draw: () => number, entry: Fields): Fields {
  const addresses = Object.fromEntries(
    ADDRESS_FIELDS.filter(() => draw() < 0.6).map((name) => [
      name,
      { socketAddress: { address: draw() < 0.5 ? "10.0.0.7" : "fd00::7", portValue: 5432 } },
    ]),
  );
  return { ...entry, commonProperties: { ...(entry["commonProperties"] as Fields | undefined), ...addresses } };
}

/** A set bool by hand. */
function varintField(field: number): Buffer {
  const tag = [];
  for (let rest = field * 8; rest > 0; rest >>>= 7) tag.push((rest & 0x7f) | (rest > 0x7f ? 0x80 : 0));
  return Buffer.from([...tag, 1]);
}

function common(bytes: Buffer): Buffer {
  return lengthDelimited(COMMON_PROPERTIES, bytes);
}

function commonFieldsOf(bytes: Buffer, entry: CommonEntry) {
  const { wasmUpstreamPeer, wasmDownstreamPeer, upstreamPeer, downstreamPeer, ...rest } = entry;
  const { downstreamRemote, downstreamDirectRemote, downstreamLocal, upstreamRemote, ...fields } = rest;
  return {
    ...fields,
    addresses: [downstreamRemote, downstreamDirectRemote, downstreamLocal, upstreamRemote].map((field) =>
      field.read(bytes),
    ),
    peers: [wasmUpstreamPeer, wasmDownstreamPeer, upstreamPeer, downstreamPeer].map((state) => bytesOf(bytes, state)),
  };
}

function fieldsOf(bytes: Buffer, entry: HttpEntry) {
  return {
    ...commonFieldsOf(bytes, entry),
    duration: entry.duration.isPresent ? entry.duration.milliseconds : null,
    timeToLastDownstreamTx: entry.timeToLastDownstreamTx.isPresent ? entry.timeToLastDownstreamTx.milliseconds : null,
  };
}

function bytesOf(bytes: Buffer, { kind, start, stop }: FilterState): Buffer | null {
  return kind === "none" ? null : bytes.subarray(start, stop);
}

const PEERS = ["wasm.upstream_peer", "wasm.downstream_peer", "upstream_peer", "downstream_peer"];
const FLAG_NUMBERS: Record<string, number> = {
  failedLocalHealthcheck: 1,
  noHealthyUpstream: 2,
  upstreamRequestTimeout: 3,
  upstreamConnectionFailure: 6,
  noRouteFound: 9,
  unauthorizedDetails: 13,
  downstreamConnectionTermination: 15,
  upstreamRetryLimitExceeded: 16,
  dnsResolutionFailure: 27,
  downstreamRemoteReset: 28,
};

const ADDRESS_FIELDS = [
  "downstreamRemoteAddress",
  "downstreamDirectRemoteAddress",
  "downstreamLocalAddress",
  "upstreamRemoteAddress",
];

interface OracleDuration {
  readonly seconds?: number;
  readonly nanos?: number;
}

interface OracleCertificate {
  readonly subjectAltName?: readonly { readonly uri?: string }[];
}

/** What the oracle's reading of an entry's common properties makes our fields. */
function expectedCommonFields(properties: Fields) {
  const tls = (properties["tlsProperties"] ?? {}) as Record<string, OracleCertificate>;
  const tags = (properties["customTags"] ?? {}) as Record<string, string>;
  return {
    downstreamPeerUriSan: firstUri(tls["peerCertificateProperties"]),
    downstreamLocalUriSan: firstUri(tls["localCertificateProperties"]),
    sni: (properties["tlsProperties"] as Fields | undefined)?.["tlsSniHostname"] ?? "",
    upstreamCluster: properties["upstreamCluster"] ?? "",
    routeName: properties["routeName"] ?? "",
    responseFlags: Object.keys((properties["responseFlags"] ?? {}) as Fields)
      .map((flag) => FLAG_NUMBERS[flag] as number)
      .sort((a, b) => a - b),
    peers: PEERS.map((name) => {
      const state = statesOf(properties)[name];
      if (state === undefined || state.type_url.endsWith("/a.B")) return null;
      return state.type_url.endsWith("/google.protobuf.Struct") ? Buffer.from(state.value) : unwrap(state);
    }),
    addresses: ADDRESS_FIELDS.map((name) => socketAddress(properties[name] as OracleAddress | undefined)),
    upstreamPeerUriSan: tags["upstream_peer_uri_san"] ?? "",
    upstreamLocalUriSan: tags["upstream_local_uri_san"] ?? "",
    upstreamWorkload: tags["upstream_workload"] ?? "",
    destinationServiceHost: tags["destination_service_host"] ?? "",
    destinationServiceName: tags["destination_service_name"] ?? "",
    destinationServiceNamespace: tags["destination_service_namespace"] ?? "",
  };
}

/** What the oracle's reading of an HTTP entry makes our fields. */
function expectedFields(entry: Fields) {
  const properties = (entry["commonProperties"] ?? {}) as Fields;
  const request = (entry["request"] ?? {}) as Fields;
  const response = (entry["response"] ?? {}) as Fields;
  const header = (fields: Fields, map: string, name: string) => (fields[map] as Record<string, string>)?.[name] ?? "";
  return {
    ...expectedCommonFields(properties),
    duration: milliseconds(properties["duration"] as OracleDuration),
    timeToLastDownstreamTx: milliseconds(properties["timeToLastDownstreamTxByte"] as OracleDuration),
    authority: request["authority"] ?? "",
    hasPath: (request["path"] ?? "") !== "",
    contentType: header(request, "requestHeaders", "content-type"),
    requestHeadersBytes: request["requestHeadersBytes"] ?? 0,
    requestBodyBytes: request["requestBodyBytes"] ?? 0,
    responseCode: (response["responseCode"] as { value?: number })?.value ?? 0,
    responseHeadersBytes: response["responseHeadersBytes"] ?? 0,
    responseBodyBytes: response["responseBodyBytes"] ?? 0,
    headerGrpcStatus: header(response, "responseHeaders", "grpc-status"),
    trailerGrpcStatus: header(response, "responseTrailers", "grpc-status"),
  };
}

/** And a TCP entry. */
function expectedTcpFields(entry: Fields) {
  const properties = (entry["commonProperties"] ?? {}) as Fields;
  const connection = (entry["connectionProperties"] ?? {}) as Fields;
  return {
    ...expectedCommonFields(properties),
    downstreamLocalAddress: addressText(properties["downstreamLocalAddress"] as OracleAddress | undefined),
    receivedBytes: connection["receivedBytes"] ?? 0,
    sentBytes: connection["sentBytes"] ?? 0,
  };
}

interface OracleAddress {
  readonly socketAddress?: { readonly address: string; readonly portValue: number };
  readonly pipe?: { readonly path: string };
}

function socketAddress(address: OracleAddress | undefined) {
  if (!address?.socketAddress) return null;
  return { ip: address.socketAddress.address, port: address.socketAddress.portValue };
}

function addressText({ socketAddress, pipe }: OracleAddress = {}): string {
  if (!socketAddress) return pipe?.path ?? "";
  const { address, portValue } = socketAddress;
  return address.includes(":") ? `[${address}]:${portValue}` : `${address}:${portValue}`;
}

function statesOf(properties: Fields | undefined): Record<string, { type_url: string; value: Uint8Array }> {
  return (properties?.["filterStateObjects"] ?? {}) as Record<string, { type_url: string; value: Uint8Array }>;
}

/** BytesValue by hand: the tests' values are shorter than 16 KiB, so their length takes one or two bytes. */
function unwrap({ value }: { value: Uint8Array }): Buffer {
  return Buffer.from(value.subarray((value[1] as number) < 0x80 ? 2 : 3));
}

function milliseconds(duration: OracleDuration | undefined): number | null {
  return duration === undefined ? null : (duration.seconds ?? 0) * 1000 + Math.floor((duration.nanos ?? 0) / 1e6);
}

function firstUri(certificate: OracleCertificate | undefined): string {
  return certificate?.subjectAltName?.map(({ uri }) => uri).find((uri) => uri) ?? "";
}
