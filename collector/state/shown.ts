// What was shown, where that is more than the shards have: of sums, the last digit; and what was shown unsaved. And the native buckets of what
// was counted before they began.

import type { NativeHistogram } from "../series/native.ts";
import type { Shapes } from "../series/shape.ts";
import { ByteWriter } from "./bytes.ts";
import { hasObservations, writeNatives } from "./natives.ts";
import { RecordKind } from "./records.ts";

/** By the index of the table: the label set, and where the least is that may be shown of it. */
type Floor = readonly [table: number, labelKey: string, chunk: Float64Array, at: number];

/** By the index of the table: the label set, and its native histograms by metric. */
type Restored = readonly [table: number, labelKey: string, natives: readonly (NativeHistogram | null)[]];

/** In pieces; to be written behind those of all shards. */
export function* shownPieces(
  floors: Iterable<Floor>,
  restored: Iterable<Restored>,
  shapes: Shapes,
  pieceBytes: number,
): Generator<Buffer> {
  const writer = new ByteWriter();
  for (const [table, labelKey, chunk, at] of floors) {
    if (writer.length === 0) writer.count(0);
    writer.byte(RecordKind.Shown);
    writer.byte(table);
    writer.labelKey(labelKey);
    writer.row(chunk, at, (shapes[table] as Shapes[number]).metrics);
    if (writer.length >= pieceBytes) yield writer.take();
  }
  for (const [table, labelKey, natives] of restored) {
    if (!hasObservations(natives)) continue;
    if (writer.length === 0) writer.count(0);
    writer.byte(RecordKind.RestoredNatives);
    writer.byte(table);
    writer.labelKey(labelKey);
    writeNatives(writer, natives);
    if (writer.length >= pieceBytes) yield writer.take();
  }
  if (writer.length > 0) yield writer.take();
}
