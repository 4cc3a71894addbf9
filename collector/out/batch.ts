// Batch: what goes out in one request, encoded once; it waits in a queue and is sent as it is.

import type { Point } from "./point.ts";

export interface Batch {
  readonly body: Buffer;
  /** Samples, or data points, in it. */
  readonly samples: number;
  /** When they were collected, Unix ms. */
  readonly collectedMs: number;
}

/** Points -> batches, in one of the wire formats. */
export interface Encoder {
  /** All that follows is of this moment. */
  begin(collectedMs: number): void;
  /** `startMs`: since when it counts, Unix ms; 0 when that is not known. */
  add(point: Point, startMs: number): void;
  /** Tells that this one is no more, of all of the point's series. Its values do not matter. */
  addGone(point: Point): void;
  /** Whether there are batches to take. */
  readonly hasBatches: boolean;
  /** Batches that are complete. With `isLast`: the one begun, too. */
  take(isLast: boolean): Promise<readonly Batch[]>;
}
