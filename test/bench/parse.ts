// How fast a proxy's stats are read: bodies of 200 label sets, in both forms. The bound is 150 MB/s of text per core.
//
// Run: npm run bench:parse

import { LabelTexts, readLabelText } from "../../collector/record/stats-labels.ts";
import { LabelMessages, type Places, StatsProtobuf } from "../../collector/record/stats-protobuf.ts";
import { StatsText } from "../../collector/record/stats-text.ts";
import { DEFAULT_BOUNDS } from "../../collector/series/histogram.ts";
import { LABEL_SETS, proxyStats } from "./proxy-stats.ts";

const CHUNK_BYTES = 65_536;
const PROXIES = 100;
const ROUNDS = 5;

/** What reads one body. */
interface Reader {
  write(chunk: Buffer): void;
  end(): unknown;
  readonly page: { report(proxy: string): { readonly samples: readonly unknown[] } };
}

function read(reader: Reader, body: Buffer): void {
  for (let at = 0; at < body.length; at += CHUNK_BYTES) reader.write(body.subarray(at, at + CHUNK_BYTES));
  reader.end();
  const { samples } = reader.page.report("");
  if (samples.length !== LABEL_SETS) throw new Error(`read ${samples.length} label sets of ${LABEL_SETS}`);
}

/** The median of the rounds, each of which reads every body once; one round before does not count. */
function measure(what: string, bodies: readonly Buffer[], readerOf: (body: number) => Reader): void {
  const times: number[] = [];
  for (let round = 0; round <= ROUNDS; round++) {
    const began = performance.now();
    for (const [index, body] of bodies.entries()) read(readerOf(index), body);
    times.push((performance.now() - began) / bodies.length);
  }
  const ms = times.slice(1).sort((a, b) => a - b)[Math.floor(ROUNDS / 2)] as number;
  const megabytes = (bodies[0] as Buffer).length / 1e6;
  console.log(
    `${what.padEnd(10)} ${megabytes.toFixed(2).padStart(6)} MB a body ${ms.toFixed(2).padStart(7)} ms a body ` +
      `${((megabytes / ms) * 1000).toFixed(0).padStart(6)} MB/s`,
  );
}

const texts = new LabelTexts(readLabelText);
const messages = new LabelMessages();
const places = Array.from({ length: PROXIES }, (): Places => []);
// Of the text, fewer bodies, each with labels of its own: a hundred of them take 1 GB.
const count = (proxies: number) => Array.from({ length: proxies }, (_, proxy) => proxy);
measure(
  "text",
  count(10).map((proxy) => proxyStats("text", proxy, 7)),
  () => new StatsText(texts, DEFAULT_BOUNDS),
);
measure(
  "protobuf",
  count(PROXIES).map((proxy) => proxyStats("protobuf", proxy, 7)),
  (proxy) => new StatsProtobuf(messages, places[proxy] as Places, 1 << 26, DEFAULT_BOUNDS),
);
