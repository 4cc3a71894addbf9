// RestoredNatives: native histograms as the process before this one left them, whichever of its threads had them. Threads keep those of what
// was counted since (series/native.ts), so that no bucket is below what was shown, however many threads there are now.

import { type NativeBuckets, NativeHistogram, observations } from "../series/native.ts";
import { HTTP_SHAPE, type MetricFields } from "../series/shape.ts";

/** By the metric's index in the shape; null of a counter. */
type Natives = readonly (NativeHistogram | null)[];

export class RestoredNatives {
  private readonly byKey = new Map<string, Natives>();
  private isSettled = false;

  /** What one thread counted when it saved its buckets. */
  addTotal(labelKey: string, total: Float64Array): void {
    for (const [metric, native] of this.of(labelKey).entries()) native?.markPlaced(total, fieldsOf(metric).from);
  }

  /** What one thread saved, or the sums of threads before. */
  addBuckets(labelKey: string, metric: number, buckets: NativeBuckets): void {
    this.of(labelKey)[metric]?.addBuckets(buckets);
  }

  /**
   * Places what the restored totals have more: what came after the buckets were written, and all where none were. To be called once all
   * threads have told what they restored; later calls do nothing.
   */
  settle(labelKeys: Iterable<string>, readTotal: (labelKey: string) => Float64Array): void {
    if (this.isSettled) return;
    this.isSettled = true;
    for (const labelKey of labelKeys) {
      const total = readTotal(labelKey);
      const settled = this.of(labelKey).map((native, metric) => native && settle(native, total, fieldsOf(metric).from));
      this.byKey.set(labelKey, settled);
    }
  }

  find(labelKey: string, metric: number): NativeBuckets | null {
    return this.byKey.get(labelKey)?.[metric]?.buckets ?? null;
  }

  /** To be saved: of each label set the buckets of each metric. */
  *saved(): Generator<readonly [labelKey: string, natives: Natives]> {
    yield* this.byKey;
  }

  private of(labelKey: string): Natives {
    let natives = this.byKey.get(labelKey);
    if (!natives) {
      natives = HTTP_SHAPE.metrics.map(({ from, to }) => (to - from > 1 ? new NativeHistogram() : null));
      this.byKey.set(labelKey, natives);
    }
    return natives;
  }
}

/** A state without buckets, or with those of some threads alone, is none to go on from. */
function settle(native: NativeHistogram, total: Float64Array, at: number): NativeHistogram {
  const settled = observations(native.buckets) === native.count ? native : new NativeHistogram();
  settled.follow(total, at, -1);
  return settled;
}

function fieldsOf(metric: number): MetricFields {
  return HTTP_SHAPE.metrics[metric] as MetricFields;
}
