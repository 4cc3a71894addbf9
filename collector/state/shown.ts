// What was shown, where that is more than the shards have: of sums, the last digit; what was shown unsaved; and what of a label set they let
// go of. And the native buckets of that, and of what was counted before they began.

import type { Shapes } from "../series/shape.ts";
import { ByteWriter } from "./bytes.ts";
import { hasObservations, type Natives, writeNatives } from "./natives.ts";
import { RecordKind } from "./records.ts";

/** By the index of the table: the label set, and where the row is. */
type Shown = readonly [what: "left" | "least", table: number, labelKey: string, chunk: Float64Array, at: number];

/** By the index of the table: the label set, and native histograms by metric. */
type ShownNatives = readonly [table: number, labelKey: string, natives: Natives];

/** In pieces; to be written behind those of all shards. */
export function* shownPieces(
  all: Iterable<Shown>,
  natives: Iterable<ShownNatives>,
  shapes: Shapes,
  pieceBytes: number,
): Generator<Buffer> {
  const writer = new ByteWriter();
  for (const [what, table, labelKey, chunk, at] of all) {
    if (writer.length === 0) writer.count(0);
    writer.byte(what === "left" ? RecordKind.Left : RecordKind.Shown);
    writer.byte(table);
    writer.labelKey(labelKey);
    writer.row(chunk, at, (shapes[table] as Shapes[number]).metrics);
    if (writer.length >= pieceBytes) yield writer.take();
  }
  for (const [table, labelKey, each] of natives) {
    if (!hasObservations(each)) continue;
    if (writer.length === 0) writer.count(0);
    writer.byte(RecordKind.RestoredNatives);
    writer.byte(table);
    writer.labelKey(labelKey);
    writeNatives(writer, each);
    if (writer.length >= pieceBytes) yield writer.take();
  }
  if (writer.length > 0) yield writer.take();
}
