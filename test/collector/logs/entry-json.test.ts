// An entry as JSON, against what protobufjs reads of the same bytes; what is redacted in it; and what hostile bytes cannot do.

import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { EntryJson, MAX_ENTRY_LENGTH } from "../../../collector/logs/entry-json.ts";
import { DEFAULT_REDACTED_HEADERS, Redaction } from "../../../collector/logs/redact.ts";
import { renderTextLine } from "../../../collector/logs/text-line.ts";
import type { JsonObject } from "../../../collector/logs/wire-json.ts";
import {
  bytesState,
  encodeEntry,
  encodeTcpEntry,
  type Fields,
  lengthDelimited,
  readEntry,
  readTcpEntry,
  structFields,
  structState,
} from "../../fixtures/als.ts";
import { randomEntry, randomTcpEntry } from "../../fixtures/als-random.ts";
import { encodeFlatNode } from "../../fixtures/flat-node.ts";
import { random } from "../../property/random.ts";

const json = new EntryJson(new Redaction({ headers: DEFAULT_REDACTED_HEADERS, query: true }));
const open = new EntryJson(new Redaction({ headers: [], query: false }));

function read(fields: Fields, reader = json): JsonObject {
  const bytes = encodeEntry(fields);
  return JSON.parse(JSON.stringify(reader.read(bytes, 0, bytes.length, true))) as JsonObject;
}

/** What the oracle says, in the words of proto3's JSON: enums by name, times and durations as text, and Any not opened. */
function plain(value: unknown, name = ""): unknown {
  if (name === "filterStateObjects" || name === "filterMetadata") return undefined;
  if (typeof value !== "object" || value === null) return ENUMS[name]?.[value as number] ?? value;
  if (Array.isArray(value)) return value.map((each) => plain(each));
  const object = value as Record<string, unknown>;
  if (name === "startTime") return "2026-01-01T00:00:00.123456789Z";
  if (/^(?:timeTo|duration$)/.test(name)) return durationOf(object);
  if (["responseCode", "port"].includes(name)) return object["value"] ?? 0;
  return Object.fromEntries(Object.entries(object).map(([key, each]) => [key, plain(each, key)]));
}

function durationOf({ seconds = 0, nanos = 0 }: { seconds?: number; nanos?: number }): string {
  const fraction = nanos === 0 ? "" : `.${String(nanos).padStart(9, "0").replace(/0+$/, "")}`;
  return `${seconds}${fraction}s`;
}

const ENUMS: Readonly<Record<string, readonly string[]>> = {
  protocolVersion: ["PROTOCOL_UNSPECIFIED", "HTTP10", "HTTP11", "HTTP2"],
  requestMethod: ["METHOD_UNSPECIFIED", "GET"],
  tlsVersion: ["VERSION_UNSPECIFIED", "TLSv1", "TLSv1_1", "TLSv1_2", "TLSv1_3"],
  accessLogType: [
    "NotSet",
    "TcpUpstreamConnected",
    "TcpPeriodic",
    "TcpConnectionEnd",
    "",
    "",
    "DownstreamEnd",
    "",
    "",
    "UpstreamEnd",
  ],
  reason: ["REASON_UNSPECIFIED", "EXTERNAL_SERVICE"],
};

function withoutStates(entry: unknown): unknown {
  return JSON.parse(
    JSON.stringify(entry, (key, value) => (["filterStateObjects", "filterMetadata"].includes(key) ? undefined : value)),
  );
}

describe("an entry as JSON", () => {
  it("holds what the oracle reads: of random entries", () => {
    const next = random(7);
    for (let i = 0; i < 150; i++) {
      const http = encodeEntry(randomEntry(next));
      expect(withoutStates(open.read(http, 0, http.length, true))).toEqual(withoutStates(plain(readEntry(http))));
      const tcp = encodeTcpEntry(randomTcpEntry(next));
      expect(withoutStates(open.read(tcp, 0, tcp.length, false))).toEqual(withoutStates(plain(readTcpEntry(tcp))));
    }
  });

  it("holds what the oracle reads: of a real Envoy's entries", () => {
    const folder = join(import.meta.dirname, "../../fixtures/envoy-als");
    const files = readdirSync(folder).filter((file) => file.endsWith(".bin"));
    expect(files.length).toBeGreaterThan(10);
    for (const file of files) {
      const bytes = readFileSync(join(folder, file));
      const entry = JSON.parse(JSON.stringify(open.read(bytes, 0, bytes.length, true))) as JsonObject;
      const expected = readEntry(bytes) as { request: Fields; commonProperties: Fields };
      expect(entry).not.toHaveProperty("cut");
      expect(Object.keys(entry["commonProperties"] as object).sort()).toEqual(
        Object.keys(expected.commonProperties).sort(),
      );
      expect(entry["request"]).toMatchObject({
        path: expected.request["path"],
        authority: expected.request["authority"],
      });
    }
  });

  it("opens peers and plain values, and names what it does not open", () => {
    const any = (type: string, value: Buffer) => ({ type_url: `type.googleapis.com/${type}`, value });
    const flat = encodeFlatNode({
      name: "a-1",
      namespace: "ns",
      workloadName: "a",
      labels: { app: "a", api_token: "x" },
    });
    const entry = read({
      commonProperties: {
        filterStateObjects: {
          "wasm.upstream_peer": bytesState(flat),
          downstream_peer: structState({
            name: "b-1",
            namespace: "ns",
            labels: { app: "b" },
            list: [1, "x", null, true],
          }),
          text: any("google.protobuf.StringValue", lengthDelimited(1, Buffer.from("/a?b=c"))),
          flag: any("google.protobuf.BoolValue", Buffer.from([8, 1])),
          number: any("google.protobuf.UInt64Value", Buffer.from([8, 200, 1])),
          bytes: bytesState(Buffer.from("secret")),
          mine: any("acme.Secret", Buffer.from("secret")),
          my_token: any("google.protobuf.StringValue", lengthDelimited(1, Buffer.from("secret"))),
        },
        metadata: {
          filterMetadata: {
            "envoy.filters.http.jwt_authn": structFields({ payload: { sub: "me" } }),
            "envoy.lb": structFields({ canary: true, weight: 0.5, inner: { password: "p", list: [{ a: "/x?y=z" }] } }),
          },
        },
      },
    });
    expect(entry).toEqual({
      commonProperties: {
        filterStateObjects: {
          "wasm.upstream_peer": {
            name: "a-1",
            namespace: "ns",
            workloadName: "a",
            clusterId: "",
            labels: { app: "a", api_token: "[redacted]" },
          },
          downstream_peer: { name: "b-1", namespace: "ns", labels: { app: "b" }, list: [1, "x", null, true] },
          text: "/a?b=[redacted]",
          flag: true,
          number: 200,
          bytes: { "@type": "type.googleapis.com/google.protobuf.BytesValue", bytes: 8 },
          mine: { "@type": "type.googleapis.com/acme.Secret", bytes: 6 },
          my_token: "[redacted]",
        },
        metadata: {
          filterMetadata: {
            "envoy.filters.http.jwt_authn": "[redacted]",
            "envoy.lb": {
              canary: true,
              weight: 0.5,
              inner: { password: "[redacted]", list: [{ a: "/x?y=[redacted]" }] },
            },
          },
        },
      },
    });
  });

  it("keeps no secret in any place where one may stand", () => {
    const text = JSON.stringify(
      read({
        commonProperties: { customTags: { authorization: "s3cret", referer: "https://u:s3cret@h/?t=s3cret" } },
        request: {
          path: "/a?t=s3cret",
          originalPath: "/b?s3cret",
          referer: "https://a/?t=s3cret#s3cret",
          requestHeaders: {
            authorization: "Bearer s3cret",
            cookie: "sid=s3cret",
            ":path": "/a?t=s3cret",
            "X-Api-Key": "s3cret",
          },
        },
        response: {
          responseHeaders: { "set-cookie": "sid=s3cret", location: "https://a/?code=s3cret" },
          responseTrailers: { "x-session-token": "s3cret" },
        },
      }),
    );
    expect(text).not.toContain("s3cret");
    expect(text.match(/\[redacted\]/g)).toHaveLength(13);
  });
});

describe("hostile bytes", () => {
  it("are never more than there is room for", () => {
    const headers = Object.fromEntries(Array.from({ length: 3000 }, (_, i) => [`x-${i}`, "v".repeat(100)]));
    const entry = read({ request: { path: `/${"p".repeat(100_000)}`, requestHeaders: headers } });
    expect(entry["cut"]).toBe(true);
    expect(JSON.stringify(entry).length).toBeLessThan(2 * MAX_ENTRY_LENGTH);
    expect((entry["request"] as JsonObject)["path"]).toMatch(/^\/p{4095}…$/);
  });

  it("nested deeper than anything is end at a depth, not with the stack", () => {
    let struct: Buffer = Buffer.alloc(0);
    for (let i = 0; i < 2000; i++) {
      const value = lengthDelimited(5, struct);
      struct = lengthDelimited(1, Buffer.concat([lengthDelimited(1, Buffer.from("k")), lengthDelimited(2, value)]));
    }
    const metadata = lengthDelimited(
      1,
      Buffer.concat([lengthDelimited(1, Buffer.from("m")), lengthDelimited(2, struct)]),
    );
    const bytes = lengthDelimited(1, lengthDelimited(17, metadata));
    expect(json.read(bytes, 0, bytes.length, true)["cut"]).toBe(true);
  });

  it("name nothing that objects have by birth", () => {
    const entry = read({ request: { requestHeaders: { ["__proto__"]: "a", constructor: "b", toString: "c" } } });
    expect(JSON.stringify(entry)).toBe(
      '{"request":{"requestHeaders":{"__proto__":"a","constructor":"b","toString":"c"}}}',
    );
  });

  it("of any kind are read without a fault", () => {
    const next = random(11);
    for (let i = 0; i < 800; i++) {
      const bytes = encodeEntry(randomEntry(next));
      for (let flips = 0; flips < 4; flips++) bytes[Math.floor(next() * bytes.length)] = Math.floor(next() * 256);
      const stop = Math.floor(next() * (bytes.length + 1));
      const entry = json.read(bytes, 0, stop, next() < 0.5);
      expect(renderTextLine(entry, ["UF"])).not.toMatch(/[\r\n]/);
      expect(typeof JSON.stringify(entry)).toBe("string");
    }
  });
});

describe("an entry as a line", () => {
  const line = (fields: Fields, flags: string[] = []) => renderTextLine(read(fields), flags);

  it("is what Envoy's default format writes", () => {
    const request = {
      requestMethod: 1,
      path: "/reviews/7",
      originalPath: "/r/7?x=1",
      requestBodyBytes: 5,
      forwardedFor: "10.1.2.3",
      userAgent: "curl/8",
      requestId: "6f1c",
      authority: "reviews:9080",
    };
    const response = {
      responseCode: { value: 503 },
      responseBodyBytes: 91,
      responseHeaders: { "x-envoy-upstream-service-time": "12" },
    };
    const commonProperties = {
      startTime: { seconds: 1_767_225_600, nanos: 123_000_000 },
      duration: { nanos: 15_900_000 },
      upstreamRemoteAddress: { socketAddress: { address: "10.0.0.7", portValue: 9080 } },
    };
    expect(line({ commonProperties, protocolVersion: 2, request, response }, ["UF", "URX"])).toBe(
      '[2026-01-01T00:00:00.123000000Z] "GET /r/7?x=[redacted] HTTP/1.1" 503 UF,URX 5 91 15 12 "10.1.2.3" "curl/8" "6f1c" "reviews:9080" "10.0.0.7:9080"',
    );
  });

  it("says of a connection, and of nothing, what is known", () => {
    const bytes = encodeTcpEntry({
      commonProperties: { upstreamRemoteAddress: { socketAddress: { address: "::1", portValue: 5432 } } },
      connectionProperties: { receivedBytes: 3, sentBytes: 4 },
    });
    const entry = json.read(bytes, 0, bytes.length, false);
    expect(renderTextLine(entry, ["UF"])).toBe('[-] "- - -" 0 UF 3 4 - - "-" "-" "-" "-" "[::1]:5432"');
    expect(line({})).toBe('[-] "- - -" 0 - 0 0 - - "-" "-" "-" "-" "-"');
  });

  it("is one line, with quotes where it has them, whatever the entry holds", () => {
    const text = line({ request: { userAgent: 'a"\n[x] \u2028\u0000\\', path: "/a\r\nb" } });
    expect(text).toContain('"a\\x22\\x0a[x] \\x2028\\x00\\x5c"');
    expect(text).toContain("/a\\x0d\\x0ab");
  });
});
