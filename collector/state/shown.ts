// What was shown, where that is more than the shards have: of sums, the last digit; and what was shown unsaved.

import { SHAPES } from "../series/shape.ts";
import { ByteWriter } from "./bytes.ts";
import { RecordKind } from "./records.ts";

/** By the index of the table: the label set, and where the least is that may be shown of it. */
type Floor = readonly [table: number, labelKey: string, chunk: Float64Array, at: number];

/** In pieces; to be written behind those of all shards. */
export function* shownPieces(floors: Iterable<Floor>, pieceBytes: number): Generator<Buffer> {
  const writer = new ByteWriter();
  for (const [table, labelKey, chunk, at] of floors) {
    if (writer.length === 0) writer.count(0);
    writer.byte(RecordKind.Shown);
    writer.byte(table);
    writer.labelKey(labelKey);
    writer.row(chunk, at, (SHAPES[table] as (typeof SHAPES)[number]).metrics);
    if (writer.length >= pieceBytes) yield writer.take();
  }
  if (writer.length > 0) yield writer.take();
}
