// Native buckets of a label set, as they are saved: of each metric that has any.

import type { NativeBuckets } from "../series/native.ts";
import type { ByteReader, ByteWriter } from "./bytes.ts";

/** By the metric's index in the shape; null of a counter. */
export type Natives = readonly ({ readonly buckets: NativeBuckets } | null)[];

export function hasObservations(natives: Natives): boolean {
  return natives.some((native) => native !== null && isHeld(native.buckets));
}

export function writeNatives(writer: ByteWriter, natives: Natives): void {
  const held = [...natives.entries()].filter(([, native]) => native !== null && isHeld(native.buckets));
  writer.count(held.length);
  for (const [metric, native] of held) {
    const { schema, zero, offset, counts } = (native as NonNullable<Natives[number]>).buckets;
    writer.count(metric);
    writer.signed(schema);
    writer.count(zero);
    writer.signed(offset);
    writer.numbers(counts);
  }
}

export function* readNatives(reader: ByteReader): Generator<readonly [metric: number, buckets: NativeBuckets]> {
  for (let left = reader.count(); left > 0; left--) {
    const metric = reader.count();
    yield [
      metric,
      { schema: reader.signed(), zero: reader.count(), offset: reader.signed(), counts: reader.numbers() },
    ];
  }
}

function isHeld({ zero, counts }: NativeBuckets): boolean {
  return zero > 0 || counts.length > 0;
}
