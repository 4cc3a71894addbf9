// SavedShards: the state of all shards, as one; and what is shown of them meanwhile.

import { setImmediate as turn } from "node:timers/promises";
import type { Saved } from "../state/checkpoints.ts";
import { readShown } from "../state/restore.ts";
import { shownPieces } from "../state/shown.ts";
import { readStores, type StateFile } from "../state/state-file.ts";
import type { SummedSeries } from "./summed-series.ts";

const PIECE_BYTES = 128 * 1024;

/** A shard here or in a thread (ShardState). */
export interface SavedShard {
  nextPiece(): Uint8Array | null | Promise<Uint8Array | null>;
  release(): unknown;
}

export class SavedShards implements Saved {
  constructor(
    private readonly shards: readonly SavedShard[],
    private readonly series: SummedSeries,
    /** Brings `series` what the shards have to tell by now. */
    private readonly takeTold: () => unknown,
  ) {}

  async *pieces(): AsyncGenerator<Uint8Array> {
    await this.takeTold(); // what shards let go of with the last saving is in no state of theirs any more
    for (const shard of this.shards) {
      for (let piece = await shard.nextPiece(); piece !== null; piece = await shard.nextPiece()) {
        if (piece.length > 0) yield piece;
        else await turn();
      }
    }
    yield* shownPieces(this.series.unsaved(), this.series.unsavedNatives(), this.series.shapes, PIECE_BYTES);
  }

  async release(): Promise<void> {
    await Promise.all(this.shards.map((shard) => shard.release()));
  }
}

/** Nothing below what the process before this one may have shown is read of `series`. */
export function restoreShown(series: SummedSeries, restored: StateFile, hasNatives: boolean): void {
  readShown(readStores(restored), series.shapes, series.restoring(hasNatives));
}
