// The vocabulary runs twice, compiled into the wasm and in TypeScript: both must say the same of the same input.

import { describe, expect, test } from "vitest";
import { packLabels } from "../../collector/series/key.ts";
import { LABELS } from "../../filter/vocabulary/labels.ts";
import { HTTP_METRICS } from "../../filter/vocabulary/metrics.ts";
import { cleanValue, encodeTag, tagRegex } from "../../filter/vocabulary/stat-name.ts";
import { RESPONSE_FLAGS, UNKNOWN } from "../../filter/vocabulary/values.ts";
import { PLAIN_REQUEST } from "../host/host.ts";
import {
  countedRequests,
  encodeMetadata,
  exchangeHeaders,
  FROM_PRODUCTPAGE,
  observationOf,
  PRODUCTPAGE,
  startInbound,
} from "../host/mesh.ts";
import { randomNumbers } from "../host/random.ts";

const SEED = 20_251_121;
const random = randomNumbers(SEED);
const ALPHABET = [...'abc.;=_-/: "\\\t\n\u0000\u007f\u0080éß日本', "😀", "𝒳", ";.;", "=.=", "...", "x".repeat(80)];

/** Well-formed text: no lone surrogate. */
function randomText(): string {
  return Array.from({ length: random(14) }, () => ALPHABET[random(ALPHABET.length)] ?? "").join("");
}

/** One request whose peer has this app and version; each peer has an id of its own. */
function fromPeer(app: string, version: string) {
  const metadata = { LABELS: { app, version } };
  const node = { ...PRODUCTPAGE, id: encodeMetadata(metadata) };
  return { ...FROM_PRODUCTPAGE, requestHeaders: [...PLAIN_REQUEST, ...exchangeHeaders(node, metadata)] };
}

test(`cleanValue: 2,000 random texts as a peer's app come out of the wasm as out of TypeScript (seed ${SEED})`, () => {
  let host = startInbound();
  for (let index = 0; index < 2_000; index++) {
    if (index % 500 === 0) host = startInbound();
    const app = randomText();
    const observation = observationOf(host.request(fromPeer(app, "v1")));
    expect(observation.labels).toMatchObject({ source_app: app === "" ? UNKNOWN : cleanValue(app) });
  }
});

test("cleanValue: every single code unit below U+0300 alone, and between letters", () => {
  for (const wrap of [(text: string) => text, (text: string) => `a${text}b`]) {
    const host = startInbound();
    for (let code = 1; code < 0x300; code++) {
      const app = wrap(String.fromCharCode(code));
      expect(observationOf(host.request(fromPeer(app, "v1"))).labels).toMatchObject({ source_app: cleanValue(app) });
    }
  }
});

describe("stat names", () => {
  const host = startInbound();
  for (let index = 0; index < 300; index++) host.request(fromPeer(randomText(), randomText()));

  test("are encodeTag of each label in order, then the metric's name", () => {
    const names = new Set(host.stats.all().map((stat) => Buffer.from(stat.statName, "latin1").toString("utf8")));
    for (const { labels } of countedRequests(host)) {
      const tags = LABELS.map((label) => encodeTag(label, labels[label] ?? "")).join("");
      for (const metric of HTTP_METRICS) expect(names).toContain(tags + metric.name);
    }
  });

  test("give each label back to its tagRegex", () => {
    for (const { labels } of countedRequests(host)) {
      const name = LABELS.map((label) => encodeTag(label, labels[label] ?? "")).join("");
      for (const label of LABELS) expect(new RegExp(tagRegex(label)).exec(name)?.[2]).toBe(labels[label]);
    }
  });
});

test("packLabels gives the bytes that the wasm writes into an observation", () => {
  const host = startInbound();
  for (let index = 0; index < 300; index++) {
    const { packedLabels, labels } = observationOf(host.request(fromPeer(randomText(), randomText())));
    expect(packedLabels.toString("latin1")).toBe(packLabels(LABELS.map((label) => labels[label] ?? "")));
  }
});

test(`RESPONSE_FLAGS: 500 random masks are named in the order of the list (seed ${SEED})`, () => {
  const host = startInbound();
  for (let index = 0; index < 500; index++) {
    const bits = RESPONSE_FLAGS.map(() => random(4) === 0);
    const responseFlags = bits.reduce((mask, isSet, bit) => (isSet ? mask | (1n << BigInt(bit)) : mask), 0n);
    const expected = RESPONSE_FLAGS.filter((_, bit) => bits[bit]).join(",") || "-";
    const { labels } = observationOf(host.request({ ...FROM_PRODUCTPAGE, responseFlags }));
    expect(labels).toMatchObject({ response_flags: expected });
  }
});
