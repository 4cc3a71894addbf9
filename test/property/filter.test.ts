// The filter fed with random peer headers: never a trap, never a malformed label, every request counted once and otherwise left
// alone, and exactly those headers counted as malformed that an oracle of its own finds to be.

import { expect, test } from "vitest";
import { LABELS } from "../../filter/vocabulary/labels.ts";
import {
  BUILD_METRIC,
  FAULT_REASONS,
  FAULTS_METRIC,
  HTTP_METRICS,
  MetricKind,
  NODE_METRIC,
  REASON_LABEL,
  START_TIME_METRIC,
} from "../../filter/vocabulary/metrics.ts";
import { PEER_ID_HEADER, PEER_METADATA_HEADER } from "../../filter/vocabulary/peer-metadata.ts";
import { BUILD_PREFIX, BUILD_SUFFIX, cleanValue, MAX_VALUE_BYTES } from "../../filter/vocabulary/stat-name.ts";
import { UNKNOWN } from "../../filter/vocabulary/values.ts";
import { type Host, type HttpStream, PLAIN_REQUEST, PLAIN_RESPONSE } from "../host/host.ts";
import {
  countedTotal,
  countedWith,
  FROM_PRODUCTPAGE,
  faults,
  observationOf,
  startInbound,
  startOutbound,
  TO_REVIEWS,
} from "../host/mesh.ts";
import { randomNumbers } from "../host/random.ts";
import type { JsonObject } from "../host/struct.ts";
import { cases } from "./cases.ts";
import { peerHeaders, plainMetadata, refusalOf } from "./peer-headers.ts";

const SEED = Number(process.env["SEED"] ?? 20_251_121);
const REQUESTS = cases(25_000);
/** Enough to see many stat names, few enough to meet the cap. */
const MAX_LABEL_SETS = 500;
/** 5 s of CPU for 25,000, however many share it. */
const TIMEOUT_MS = REQUESTS * 10;

test(`${REQUESTS} random peer headers: no trap, well-formed labels, counts that add up (seed ${SEED})`, {
  timeout: TIMEOUT_MS,
}, () => {
  const random = randomNumbers(SEED);
  const header = peerHeaders(random);
  const max_label_sets = MAX_LABEL_SETS;
  const inbound = startInbound({
    configuration: { direction: "inbound", disable_host_header_fallback: true, max_label_sets },
  });
  const outbound = startOutbound({ configuration: { direction: "outbound", max_label_sets } });
  const refusals = new Map([inbound, outbound].map((host) => [host, { peer_too_large: 0, peer_malformed: 0 }]));
  let plain = 0;
  for (let index = 0; index < REQUESTS; index++) {
    const exchange: [string, string][] = [];
    if (random(10) > 0) exchange.push([PEER_ID_HEADER, random(3) === 0 ? `peer-${random(700)}` : header()]);
    if (random(20) > 0) exchange.push([PEER_METADATA_HEADER, header()]);
    if (random(50) === 0) exchange.push([PEER_METADATA_HEADER, header()]);
    const isInbound = index % 2 === 0;
    const host = isInbound ? inbound : outbound;
    const stream = isInbound
      ? host.request({ ...FROM_PRODUCTPAGE, requestHeaders: [...PLAIN_REQUEST, ...exchange] })
      : host.request({ ...TO_REVIEWS, responseHeaders: [...PLAIN_RESPONSE, ...exchange] });
    expectUntouched(stream, isInbound);
    // Of a header that stands several times the first one counts; one that is empty is none.
    const [, metadata = ""] = exchange.find(([name]) => name === PEER_METADATA_HEADER) ?? [];
    const refusal = metadata === "" ? null : refusalOf(metadata);
    const counts = refusals.get(host);
    if (refusal !== null && counts !== undefined) counts[refusal]++;
    const peer = refusal === null && metadata !== "" ? plainMetadata(metadata) : null;
    if (expectNamed(stream, isInbound ? "source_workload" : "destination_workload", peer)) plain++;
  }
  expect(plain).toBeGreaterThan(REQUESTS / 10);
  for (const [host, expected] of refusals) {
    expectWellFormedStats(host);
    expect(countedTotal(host)).toBe(REQUESTS / 2);
    for (const metric of HTTP_METRICS.slice(1)) {
      const samples = host.series(metric.name).reduce((sum, one) => sum + one.samples.length, 0);
      expect(samples, metric.name).toBe(REQUESTS / 2);
    }
    const { label_sets_full = 0, peer_too_large = 0, peer_malformed = 0, host_call = 0 } = faults(host);
    expect(countedWith(host, { response_code: "other" })).toBe(label_sets_full);
    expect(label_sets_full).toBeGreaterThan(0);
    expect(host_call).toBe(0);
    expect(expected.peer_malformed).toBeGreaterThan(REQUESTS / 10);
    expect(expected.peer_too_large).toBeGreaterThan(REQUESTS / 1000);
    expect({ peer_too_large, peer_malformed }).toEqual(expected);
  }
});

/** The headers are what they were without the exchange's. Compared by hand: `expect` costs more than a request. */
function expectUntouched(stream: HttpStream, isInbound: boolean): void {
  const [left, sent] = isInbound
    ? [stream.requestHeaders.pairs(), PLAIN_REQUEST]
    : [stream.responseHeaders.pairs(), PLAIN_RESPONSE];
  if (left.join("\n") !== sent.join("\n")) expect(left).toEqual(sent);
}

/** Metadata that can be read in one way only names the peer; whether it was such. */
function expectNamed(stream: HttpStream, label: string, peer: JsonObject | null): boolean {
  const { labelCount, labels } = observationOf(stream);
  if (labelCount !== LABELS.length) expect(labelCount).toBe(LABELS.length);
  if (peer === null || labels["response_code"] === "other") return false;
  const { WORKLOAD_NAME: name } = peer;
  const expected = typeof name === "string" && name !== "" ? cleanValue(name) : UNKNOWN;
  if (labels[label] !== expected) expect(labels[label]).toBe(expected);
  return true;
}

/** Every stat is ours, its name decodes into its labels and nothing else, and each label value is clean. */
function expectWellFormedStats(host: Host): void {
  const kinds = new Map(HTTP_METRICS.map((metric) => [metric.name, metric.kind]));
  const names = LABELS.join();
  for (const { name, labels, kind } of host.series()) {
    if (name === START_TIME_METRIC) {
      expect(kind).toBe(MetricKind.Gauge);
      expect(labels).toEqual({});
    } else if (name === `${BUILD_PREFIX}1.29.0${BUILD_SUFFIX}${BUILD_METRIC}`) {
      expect(labels).toEqual({}); // Envoy cuts its labels out by other expressions
    } else if (name.endsWith(`${BUILD_SUFFIX}${NODE_METRIC}`)) {
      expect(labels).toEqual({});
    } else if (name === FAULTS_METRIC) {
      expect(Object.keys(labels)).toEqual([REASON_LABEL]);
      expect(FAULT_REASONS).toContain(labels[REASON_LABEL]);
    } else {
      if (kinds.get(name) !== kind) expect(kinds.get(name), name).toBe(kind);
      if (Object.keys(labels).join() !== names) expect(Object.keys(labels)).toEqual(LABELS);
      const broken = Object.values(labels).filter((value) => !isClean(value));
      if (broken.length > 0) expect(broken).toEqual([]);
    }
  }
}

function isClean(value: string): boolean {
  return cleanValue(value) === value && Buffer.byteLength(value) <= MAX_VALUE_BYTES;
}
