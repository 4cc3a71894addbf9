// Native buckets as fields of io.prometheus.client.Histogram.
//
//   counts  0 3 1 0 0 0 0 2      from bucket 10 on: runs of buckets that hold something, and what each holds more than the one before
//   spans   {offset 11, length 2} {offset 4, length 1}      deltas  3 -2 1

import { bytesTag, fixed64Tag, varintTag } from "../../proto/wire.ts";
import type { NativeBuckets } from "../../series/native.ts";
import { type ByteWriter, varintLength } from "./writer.ts";

const SCHEMA = varintTag(5);
const ZERO_THRESHOLD = fixed64Tag(6);
const ZERO_COUNT = varintTag(7);
const POSITIVE_SPAN = bytesTag(12);
const POSITIVE_DELTA = varintTag(13);
const SPAN = { offset: varintTag(1), length: varintTag(2) };

/** Prometheus' own: what is nearer to 0 than this counts as 0. */
const THRESHOLD = 2 ** -128;
/** A gap of so many empty buckets costs less as zeros than as the beginning of another span. */
const CHEAP_GAP = 2;
/** A bucket's delta, and a span of its own, at most. */
const BUCKET_BYTES = 32;

interface Run {
  /** Places in `counts`. */
  readonly from: number;
  end: number;
}

export function putNativeFields(to: ByteWriter, { schema, zero, offset, counts }: NativeBuckets): void {
  to.ensure(BUCKET_BYTES * (counts.length + 1));
  putSigned(to, SCHEMA, schema);
  to.putByte(ZERO_THRESHOLD);
  to.putDouble(THRESHOLD);
  to.putByte(ZERO_COUNT);
  to.putVarint(zero);
  const runs = runsOf(counts);
  let end = 0; // bucket behind the last span
  for (const run of runs) {
    const bytes = 2 + varintLength(zigzag(offset + run.from - end)) + varintLength(run.end - run.from);
    to.putByte(POSITIVE_SPAN);
    to.putVarint(bytes);
    putSigned(to, SPAN.offset, offset + run.from - end);
    to.putByte(SPAN.length);
    to.putVarint(run.end - run.from);
    end = offset + run.end;
  }
  let before = 0;
  for (const run of runs) {
    for (let place = run.from; place < run.end; place++) {
      const count = counts[place] as number;
      putSigned(to, POSITIVE_DELTA, count - before);
      before = count;
    }
  }
}

function runsOf(counts: Float64Array): Run[] {
  const runs: Run[] = [];
  for (const [place, count] of counts.entries()) {
    if (count === 0) continue;
    const last = runs.at(-1);
    if (last && place - last.end <= CHEAP_GAP) last.end = place + 1;
    else runs.push({ from: place, end: place + 1 });
  }
  return runs;
}

function putSigned(to: ByteWriter, tag: number, value: number): void {
  to.putByte(tag);
  to.putVarint(zigzag(value));
}

/** sint32 and sint64: 0, -1, 1, -2, ... */
function zigzag(value: number): number {
  return value < 0 ? -2 * value - 1 : 2 * value;
}
