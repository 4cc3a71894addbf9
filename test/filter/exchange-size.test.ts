// What is sent and kept beyond the meaningful labels, and how long a metadata header may be.

import { describe, expect, test } from "vitest";
import { PEER_ID_HEADER, PEER_METADATA_HEADER } from "../../filter/vocabulary/peer-metadata.ts";
import { readFlatNode } from "../host/flat-node.ts";
import { type Host, PLAIN_REQUEST } from "../host/host.ts";
import {
  countedLabels,
  decodeMetadata,
  encodeMetadata,
  exchangedMetadata,
  exchangeHeaderNames,
  exchangeHeaders,
  FROM_PRODUCTPAGE,
  faults,
  PRODUCTPAGE,
  REVIEWS,
  startInbound,
  startOutbound,
  withMetadata,
} from "../host/mesh.ts";
import { type Json, type JsonObject, sortKeys } from "../host/struct.ts";

const LABELS = PRODUCTPAGE.metadata["LABELS"] as JsonObject;

function outbound(exchange: JsonObject, labels: JsonObject = LABELS): Host {
  return startOutbound({
    node: withMetadata(PRODUCTPAGE, { LABELS: labels }),
    configuration: { direction: "outbound", metadata_exchange: exchange },
  });
}

function inbound(exchange: JsonObject): Host {
  return startInbound({ configuration: { direction: "inbound", metadata_exchange: exchange } });
}

function sentBy(host: Host): string {
  return host.request().requestHeaders.get(PEER_METADATA_HEADER) ?? "";
}

function sentLabels(host: Host): Json | undefined {
  return decodeMetadata(sentBy(host))["LABELS"];
}

function warnings(host: Host): string[] {
  return host.logs.filter(({ level }) => level === "warn").map(({ text }) => text);
}

const SHORT = { app: "productpage", "service.istio.io/canonical-name": "productpage" };

describe("additional_labels, sent", () => {
  test("go out with the four others, keys in order", () => {
    const host = outbound(
      { additional_labels: ["zone", "role", "b"] },
      { ...LABELS, role: "front", b: "2", zone: "z" },
    );
    const expected = { ...exchangedMetadata(PRODUCTPAGE) };
    expected["LABELS"] = { ...(expected["LABELS"] as JsonObject), role: "front", b: "2", zone: "z" };
    expect(sentBy(host)).toBe(encodeMetadata(sortKeys(expected)));
  });

  test("are in the answer, too", () => {
    const host = startInbound({
      node: withMetadata(REVIEWS, { LABELS: { ...SHORT, role: "back" } }),
      configuration: { direction: "inbound", metadata_exchange: { additional_labels: ["role"] } },
    });
    const answer = host.request(FROM_PRODUCTPAGE).responseHeaders.get(PEER_METADATA_HEADER) ?? "";
    expect(decodeMetadata(answer)).toMatchObject({ LABELS: { role: "back" } });
  });

  test("that the workload does not have are left out", () => {
    expect(sentLabels(outbound({ additional_labels: ["role"] }, SHORT))).toEqual(SHORT);
  });

  test.each([
    [["app"]],
    [["role", "role"]],
    [["app", "version", "service.istio.io/canonical-name", "service.istio.io/canonical-revision", "role"]],
  ])("%j: each name stands there once", (additional_labels) => {
    const sent = sentBy(outbound({ additional_labels }, { ...SHORT, role: "r" }));
    const bytes = Buffer.from(sent, "base64").toString("latin1");
    for (const name of ["app", "role", "service.istio.io/canonical-name"]) {
      const isExpected = name !== "role" || additional_labels.includes("role");
      expect(bytes.split(`\n${String.fromCharCode(name.length)}${name}`).length - 1).toBe(isExpected ? 1 : 0);
    }
  });

  test("app keeps its rule when it is named: app.kubernetes.io/name first; that name goes out only when it is named, too", () => {
    const labels = { app: "short", "app.kubernetes.io/name": "long" };
    expect(sentLabels(outbound({ additional_labels: ["app"] }, labels))).toEqual({ app: "long" });
    const both = outbound({ additional_labels: ["app.kubernetes.io/name"] }, labels);
    expect(sentLabels(both)).toEqual({ app: "long", "app.kubernetes.io/name": "long" });
  });

  test("are found among any number of own labels", () => {
    const many = Object.fromEntries(Array.from({ length: 100 }, (_, index) => [`l${index}`, "x"]));
    const host = outbound({ additional_labels: ["role", "l99"] }, { ...many, role: "last" });
    expect(sentLabels(host)).toEqual({ role: "last", l99: "x" });
  });

  test("are those of each configuration in one VM", () => {
    const host = outbound({ additional_labels: ["role"] }, { role: "r", tier: "t" });
    const rootId = host.addPlugin({ direction: "outbound", metadata_exchange: { additional_labels: ["tier"] } });
    const other = host.request({ rootId }).requestHeaders.get(PEER_METADATA_HEADER) ?? "";
    expect([sentLabels(host), decodeMetadata(other)["LABELS"]]).toEqual([{ role: "r" }, { tier: "t" }]);
  });

  test("64 names are in order, 65 are a fault and none is sent", () => {
    const names = (count: number) => Array.from({ length: count }, (_, index) => `l${index}`);
    const labels = Object.fromEntries(names(65).map((name) => [name, "x"]));
    const full = outbound({ additional_labels: names(64) }, labels);
    expect(Object.keys(sentLabels(full) as JsonObject)).toHaveLength(64);
    expect(faults(full)).toEqual({});
    const beyond = outbound({ additional_labels: names(65) }, labels);
    expect(sentLabels(beyond)).toEqual({});
    expect(faults(beyond)).toEqual({ configuration: 1 });
  });

  test.each(["role", { role: true }, [1], [null]])("%j is a fault, and the default holds", (additional_labels) => {
    const host = outbound({ additional_labels: additional_labels as Json }, { ...SHORT, role: "r" });
    expect(sentLabels(host)).toEqual(SHORT);
    expect(faults(host)).toEqual({ configuration: 1 });
  });
});

describe("additional_labels, received", () => {
  const ordinary = Object.fromEntries(Array.from({ length: 70 }, (_, index) => [`a${100 + index}`, "x"]));
  const fromCrowd = {
    requestHeaders: [...PLAIN_REQUEST, ...exchangeHeaders(PRODUCTPAGE, { LABELS: { ...ordinary, role: "r" } })],
  };
  const keptBy = (host: Host, rootId?: number): string[] => {
    const stream = host.request({ ...fromCrowd, ...(rootId === undefined ? {} : { rootId }) });
    const node = readFlatNode(stream.filterState.get("wasm.downstream_peer") ?? Buffer.alloc(0));
    return (node.labels ?? []).map(([key]) => key);
  };

  test("are kept beyond the 64 that are kept of any peer", () => {
    expect(keptBy(inbound({}))).toEqual(Object.keys(ordinary).slice(0, 64));
    expect(keptBy(inbound({ additional_labels: ["role", "a169"] }))).toEqual([
      ...Object.keys(ordinary).slice(0, 64),
      "a169",
      "role",
    ]);
  });

  test("are kept for each configuration in one VM, whichever saw the peer first", () => {
    const host = inbound({});
    expect(keptBy(host)).not.toContain("role");
    const rootId = host.addPlugin({ direction: "inbound", metadata_exchange: { additional_labels: ["role"] } });
    expect(keptBy(host, rootId)).toContain("role");
    expect(keptBy(host)).not.toContain("role");
  });
});

describe("max_header_bytes, received", () => {
  /** A header of exactly this many bytes. */
  const headerOf = (bytes: number): string => {
    const empty = Buffer.from(encodeMetadata({ WORKLOAD_NAME: "long", NAME: "x".repeat(bytes / 2) }), "base64").length;
    const name = "x".repeat(bytes / 2 + (bytes / 4) * 3 - empty);
    return encodeMetadata({ WORKLOAD_NAME: "long", NAME: name });
  };

  test.each([
    [{}, 16_384],
    [{ max_header_bytes: 512 }, 512],
    [{ max_header_bytes: 32_768 }, 32_768],
  ])("%j: %d bytes are decoded; 4 more are not, and that is counted under its own reason", (exchange, most) => {
    for (const [bytes, workload, counted] of [
      [most, "long", {}],
      [most + 4, "unknown", { peer_too_large: 1 }],
    ] as const) {
      const header = headerOf(bytes);
      expect(header).toHaveLength(bytes);
      const host = inbound(exchange);
      const stream = host.request({ requestHeaders: [...PLAIN_REQUEST, [PEER_METADATA_HEADER, header]] });
      expect(countedLabels(host)).toMatchObject({ source_workload: workload });
      expect(faults(host)).toEqual(counted);
      expect(stream.filterState.has("wasm.downstream_peer")).toBe(workload === "long");
      expect(stream.requestHeaders.pairs()).toEqual(PLAIN_REQUEST);
      // It was there, so it is answered: whoever sends a long header is a proxy all the same.
      expect(exchangeHeaderNames(stream, "responseHeaders")).toEqual([PEER_METADATA_HEADER]);
    }
  });

  test("what one configuration decoded is too long for another in the same VM", () => {
    const host = inbound({});
    const rootId = host.addPlugin({ direction: "inbound", metadata_exchange: { max_header_bytes: 512 } });
    const requestHeaders = [...PLAIN_REQUEST, [PEER_METADATA_HEADER, headerOf(1024)] as const];
    for (const root of [{}, { rootId }]) host.request({ requestHeaders, ...root });
    expect(faults(host)).toEqual({ peer_too_large: 1 });
  });

  test.each([511, 32_769, 1024.5, "1024", -1])("%j is a fault, and the default holds", (max_header_bytes) => {
    const host = inbound({ max_header_bytes });
    host.request({ requestHeaders: [...PLAIN_REQUEST, [PEER_METADATA_HEADER, headerOf(16_384)]] });
    expect(countedLabels(host)).toMatchObject({ source_workload: "long" });
    expect(faults(host)).toEqual({ configuration: 1 });
  });
});

describe("max_header_bytes, sent", () => {
  test("what is too long with its additional labels goes without them: logged and counted once", () => {
    const host = outbound({ additional_labels: ["role"], max_header_bytes: 1024 }, { ...SHORT, role: "r".repeat(800) });
    for (let round = 0; round < 3; round++) expect(sentLabels(host)).toEqual(SHORT);
    expect(warnings(host)).toEqual([
      expect.stringMatching(/more than max_header_bytes 1024: the additional labels are/),
    ]);
    expect(faults(host)).toEqual({ own_metadata_too_large: 1 });
  });

  test("what is too long even so is not sent at all, and nothing of the application's passes in its place", () => {
    const host = outbound({ max_header_bytes: 512 }, { app: "a".repeat(800) });
    const forged = { requestHeaders: [...PLAIN_REQUEST, ...exchangeHeaders(REVIEWS)] };
    for (const options of [{}, forged]) {
      expect(host.request(options).requestHeaders.pairs()).toEqual(PLAIN_REQUEST);
    }
    expect(warnings(host)).toEqual([expect.stringMatching(/more than max_header_bytes 512: none is sent/)]);
    expect(faults(host)).toEqual({ own_metadata_too_large: 1 });
  });

  test("what is too long is no answer, either", () => {
    const host = startInbound({
      node: withMetadata(REVIEWS, { NAME: "n".repeat(800) }),
      configuration: { direction: "inbound", metadata_exchange: { max_header_bytes: 1024 } },
    });
    const stream = host.request({
      requestHeaders: [...PLAIN_REQUEST, ...exchangeHeaders(PRODUCTPAGE)],
      responseHeaders: [[":status", "200"], ...exchangeHeaders(PRODUCTPAGE)],
    });
    expect(stream.responseHeaders.pairs()).toEqual([[":status", "200"]]);
    expect(faults(host)).toEqual({ own_metadata_too_large: 1 });
  });

  test("more than 8 KiB of own metadata are sent, with one warning", () => {
    const host = outbound({ additional_labels: ["role"] }, { role: "r".repeat(7_000) });
    for (let round = 0; round < 3; round++) expect(sentBy(host).length).toBeGreaterThan(8_192);
    expect(warnings(host)).toEqual([expect.stringMatching(/each request carries \d+ bytes of own metadata/)]);
    expect(faults(host)).toEqual({});
  });

  test("up to 8 KiB there is none", () => {
    const host = outbound({ additional_labels: ["role"] }, { role: "r".repeat(5_500) });
    expect(sentBy(host).length).toBeGreaterThan(7_000);
    expect(host.request().requestHeaders.get(PEER_ID_HEADER)).toBe(PRODUCTPAGE.id);
    expect(warnings(host)).toEqual([]);
  });
});
