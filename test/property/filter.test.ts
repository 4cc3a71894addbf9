// The filter fed with random peer headers: never a trap, never a malformed label, and every request counted once.

import { expect, test } from "vitest";
import { LABELS } from "../../filter/vocabulary/labels.ts";
import {
  FAULT_REASONS,
  FAULTS_METRIC,
  HTTP_METRICS,
  MetricKind,
  REASON_LABEL,
  START_TIME_METRIC,
} from "../../filter/vocabulary/metrics.ts";
import { PEER_ID_HEADER, PEER_METADATA_HEADER } from "../../filter/vocabulary/peer-metadata.ts";
import { cleanValue, MAX_VALUE_BYTES } from "../../filter/vocabulary/stat-name.ts";
import type { HeaderPairs } from "../host/headers.ts";
import { type Host, PLAIN_REQUEST, PLAIN_RESPONSE } from "../host/host.ts";
import {
  countedTotal,
  countedWith,
  encodeMetadata,
  exchangedMetadata,
  FROM_PRODUCTPAGE,
  faults,
  makeNode,
  observationOf,
  PRODUCTPAGE,
  startInbound,
  startOutbound,
  TO_REVIEWS,
} from "../host/mesh.ts";
import { randomNumbers } from "../host/random.ts";
import type { Json, JsonObject } from "../host/struct.ts";

const SEED = 20_251_121;
const REQUESTS = 20_000;

test(`${REQUESTS} random peer headers: no trap, well-formed labels, counts that add up (seed ${SEED})`, () => {
  const random = randomNumbers(SEED);
  const header = randomPeerHeader(random);
  const inbound = startInbound();
  const outbound = startOutbound();
  for (let index = 0; index < REQUESTS; index++) {
    const exchange: [string, string][] = [];
    if (random(10) > 0) exchange.push([PEER_ID_HEADER, random(3) === 0 ? `peer-${random(700)}` : header()]);
    if (random(20) > 0) exchange.push([PEER_METADATA_HEADER, header()]);
    if (random(50) === 0) exchange.push([PEER_METADATA_HEADER, header()]);
    const stream =
      index % 2 === 0
        ? inbound.request({ ...FROM_PRODUCTPAGE, requestHeaders: [...PLAIN_REQUEST, ...exchange] })
        : outbound.request({ ...TO_REVIEWS, responseHeaders: [...PLAIN_RESPONSE, ...exchange] });
    const untouched: HeaderPairs = index % 2 === 0 ? stream.requestHeaders.pairs() : stream.responseHeaders.pairs();
    expect(untouched).toEqual(index % 2 === 0 ? PLAIN_REQUEST : PLAIN_RESPONSE);
    expect(observationOf(stream).labelCount).toBe(LABELS.length);
  }
  for (const host of [inbound, outbound]) {
    expectWellFormedStats(host);
    expect(countedTotal(host)).toBe(REQUESTS / 2);
    for (const metric of HTTP_METRICS.slice(1)) {
      const samples = host.series(metric.name).reduce((sum, one) => sum + one.samples.length, 0);
      expect(samples, metric.name).toBe(REQUESTS / 2);
    }
    const { label_sets_full = 0, host_call = 0 } = faults(host);
    expect(countedWith(host, { reporter: "other" })).toBe(label_sets_full);
    expect(host_call).toBe(0);
  }
});

/** Every stat is ours, its name decodes into its labels and nothing else, and each label value is clean. */
function expectWellFormedStats(host: Host): void {
  const kinds = new Map(HTTP_METRICS.map((metric) => [metric.name, metric.kind]));
  for (const { name, labels, kind } of host.series()) {
    if (name === START_TIME_METRIC) {
      expect(kind).toBe(MetricKind.Gauge);
      expect(labels).toEqual({});
    } else if (name === FAULTS_METRIC) {
      expect(Object.keys(labels)).toEqual([REASON_LABEL]);
      expect(FAULT_REASONS).toContain(labels[REASON_LABEL]);
    } else {
      expect(kinds.get(name), name).toBe(kind);
      expect(Object.keys(labels)).toEqual(LABELS);
      for (const value of Object.values(labels)) {
        expect(cleanValue(value)).toBe(value);
        expect(Buffer.byteLength(value)).toBeLessThanOrEqual(MAX_VALUE_BYTES);
      }
    }
  }
}

/** Valid headers, mutations of them, and garbage, a few of each often enough to hit the cache. */
function randomPeerHeader(random: (bound: number) => number): () => string {
  const pick = <T>(values: readonly T[]): T => values[random(values.length)] as T;
  const byte = () => String.fromCharCode(random(256));
  const text = () => pick(["", "x", "a;.;b", "=.=", "...", "\u0000", "größe", "😀", "x".repeat(300), `v${random(50)}`]);
  const known = ["NAME", "NAMESPACE", "WORKLOAD_NAME", "CLUSTER_ID", "OWNER", "IDENTITY", "LABELS", "MESH_ID", "other"];
  const knownLabels = ["app", "version", "service.istio.io/canonical-name", "app.kubernetes.io/name", "other", ""];

  function value(depth: number): Json {
    const kind = random(depth > 3 ? 5 : 7);
    if (kind < 3) return text();
    if (kind === 3) return random(1_000) / 7;
    if (kind === 4) return pick([true, false, null]);
    return kind === 5 ? [value(depth + 1), value(depth + 1)] : object(depth + 1, knownLabels);
  }

  function object(depth: number, keys: readonly string[]): JsonObject {
    return Object.fromEntries(Array.from({ length: random(keys.length + 1) }, () => [pick(keys), value(depth)]));
  }

  function mutated(header: string): string {
    const bytes = Buffer.from(header, "base64");
    for (let changes = 1 + random(4); changes > 0; changes--) {
      const at = random(bytes.length + 1);
      if (at < bytes.length) bytes[at] = random(256);
    }
    const cut = random(3) === 0 ? bytes.subarray(0, random(bytes.length + 1)) : bytes;
    return cut.toString("base64");
  }

  const valid = () => encodeMetadata(exchangedMetadata(makeNode(`s${random(700)}`, "v1", "::1")));
  const fixed = encodeMetadata(exchangedMetadata(PRODUCTPAGE));
  return () => {
    switch (random(8)) {
      case 0:
        return fixed;
      case 1:
        return valid();
      case 2:
        return encodeMetadata(object(0, known));
      case 3:
        return mutated(valid());
      case 4:
        return mutated(encodeMetadata(object(0, known)));
      case 5:
        return fixed.slice(0, random(fixed.length));
      case 6:
        return Buffer.from(Array.from({ length: random(200) }, () => random(256))).toString("base64");
      default:
        return Array.from({ length: random(60) }, byte).join("");
    }
  };
}
