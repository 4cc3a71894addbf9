// What an analysis reads of an entry, beside what protobufjs reads of the same bytes.

import { expect, test } from "vitest";
import { AnalysisEntry, type Span } from "../../collector/proto/als-analysis.ts";
import { encodeEntry, encodeTcpEntry, type Fields, readEntry, readTcpEntry } from "../fixtures/als.ts";
import { pick, type Random, randomEntry, randomTcpEntry } from "../fixtures/als-random.ts";
import { random } from "../property/random.ts";

const ENTRIES = 400;

/** Of the entry, by the name of the oracle's field. */
const SPANS = {
  startTime: "startTime",
  firstUpstreamTx: "timeToFirstUpstreamTxByte",
  firstUpstreamRx: "timeToFirstUpstreamRxByte",
  lastUpstreamRx: "timeToLastUpstreamRxByte",
  firstDownstreamTx: "timeToFirstDownstreamTxByte",
  lastDownstreamTx: "timeToLastDownstreamTxByte",
  duration: "duration",
} as const;

/** envoy.config.core.v3.RequestMethod, by number. */
const METHODS = ["METHOD_UNSPECIFIED", "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"];

interface OracleCertificate {
  readonly subject?: string;
  readonly subjectAltName?: readonly { readonly uri?: string }[];
}

interface OracleTls {
  readonly tlsVersion?: number;
  readonly localCertificateProperties?: OracleCertificate;
  readonly peerCertificateProperties?: OracleCertificate;
}

/** The entry with what only an analysis reads, drawn too. */
function withMore(draw: Random, entry: Fields): Fields {
  const common = (entry["commonProperties"] ?? {}) as Fields;
  const spans = Object.values(SPANS).filter(() => draw() < 0.6);
  const drawn: Record<string, unknown> = Object.fromEntries(
    spans.map((name) => [name, { seconds: pick(draw, [0, 1, -1, 2 ** 33]), nanos: Math.floor(draw() * 1e9) }]),
  );
  if (draw() < 0.5) drawn["upstreamRemoteAddress"] = pick(draw, [{}, { pipe: { path: "/run/a.sock" } }]);
  if (draw() < 0.5) drawn["tlsProperties"] = randomTls(draw);
  drawn["streamId"] = pick(draw, ["", "a", "x".repeat(128), "x".repeat(129)]);
  const request = entry["request"] as Fields | undefined;
  const path = pick(draw, ["", "/a?b=c", "/é", "/".repeat(300)]);
  const requestMethod = pick(draw, [...METHODS.keys(), 42]);
  return {
    ...entry,
    commonProperties: { ...common, ...drawn },
    ...(request === undefined ? {} : { request: { ...request, path, requestMethod } }),
  };
}

function randomTls(draw: Random): Fields {
  const certificate = (): Fields => ({
    subject: pick(draw, ["", "CN=a"]),
    subjectAltName: pick(draw, [[], [{ uri: "" }], [{ dns: "a.example" }], [{ dns: "b" }, { uri: "spiffe://a" }]]),
  });
  return {
    tlsVersion: pick(draw, [0, 4]),
    ...(draw() < 0.7 ? { localCertificateProperties: certificate() } : {}),
    ...(draw() < 0.7 ? { peerCertificateProperties: certificate() } : {}),
  };
}

function readAll(bytes: Buffer) {
  const entry = new AnalysisEntry();
  expect(entry.read(bytes, 0, bytes.length)).toBe(true);
  return factsOf(entry);
}

function factsOf(entry: AnalysisEntry) {
  const { accessLogType, streamId, hasUpstream, hasTlsVersion, hasLocalIdentity, hasPeerIdentity, method, path } =
    entry;
  const spans = Object.keys(SPANS).map((name) => entry[name as keyof typeof SPANS] as Span);
  return {
    spans: spans.map(({ nanoseconds, milliseconds }) => [nanoseconds, milliseconds]),
    ...{ accessLogType, streamId, hasUpstream, hasTlsVersion, hasLocalIdentity, hasPeerIdentity, method, path },
  };
}

function expected(entry: Fields) {
  const common = (entry["commonProperties"] ?? {}) as Fields;
  const request = (entry["request"] ?? {}) as { readonly requestMethod?: number; readonly path?: string };
  const tls = (common["tlsProperties"] ?? {}) as OracleTls;
  const streamId = (common["streamId"] ?? "") as string;
  return {
    spans: Object.values(SPANS).map((name) => expectedSpan(common[name] as OracleSpan | undefined)),
    accessLogType: common["accessLogType"] ?? 0,
    streamId: streamId.length > 128 ? "" : streamId,
    hasUpstream: common["upstreamRemoteAddress"] !== undefined,
    hasTlsVersion: (tls.tlsVersion ?? 0) !== 0,
    hasLocalIdentity: hasIdentity(tls.localCertificateProperties),
    hasPeerIdentity: hasIdentity(tls.peerCertificateProperties),
    method: METHODS[request.requestMethod ?? 0] ?? METHODS[0],
    path: request.path ?? "",
  };
}

interface OracleSpan {
  readonly seconds?: number;
  readonly nanos?: number;
}

function expectedSpan(span: OracleSpan | undefined): (number | null)[] {
  if (span === undefined) return [null, null];
  const { seconds = 0, nanos = 0 } = span;
  return [seconds * 1e9 + nanos, seconds * 1000 + Math.floor(nanos / 1e6)];
}

function hasIdentity({ subject = "", subjectAltName = [] }: OracleCertificate = {}): boolean {
  return subject !== "" || subjectAltName.some(({ uri }) => uri);
}

test(`the oracle agrees on every field of ${ENTRIES} random entries`, () => {
  const draw = random(6);
  for (let i = 0; i < ENTRIES; i++) {
    const bytes = encodeEntry(withMore(draw, randomEntry(draw)));
    expect(readAll(bytes)).toEqual(expected(readEntry(bytes)));
  }
});

test(`and of ${ENTRIES} random TCP entries`, () => {
  const draw = random(7);
  for (let i = 0; i < ENTRIES; i++) {
    const bytes = encodeTcpEntry(withMore(draw, randomTcpEntry(draw)));
    expect(readAll(bytes)).toEqual(expected(readTcpEntry(bytes)));
  }
});

test("and of entries whose messages come in pieces: they are merged", () => {
  const draw = random(8);
  for (let i = 0; i < ENTRIES; i++) {
    const bytes = Buffer.concat([0, 1].map(() => encodeEntry(withMore(draw, randomEntry(draw)))));
    expect(readAll(bytes)).toEqual(expected(readEntry(bytes)));
  }
});

test("an entry read after another shows nothing of it", () => {
  const draw = random(9);
  const entry = new AnalysisEntry();
  const empty = expected({});
  for (let i = 0; i < 100; i++) {
    const bytes = encodeEntry(withMore(draw, randomEntry(draw)));
    entry.read(bytes, 0, bytes.length);
    expect(entry.read(Buffer.alloc(0), 0, 0)).toBe(true);
    expect(factsOf(entry)).toEqual(empty);
  }
});
