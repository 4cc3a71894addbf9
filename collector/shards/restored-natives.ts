// RestoredNatives: native histograms as the process before this one left them, whichever of its threads had them. Threads keep those of what
// was counted since (series/native.ts), so that no bucket is below what was shown, however many threads there are now.

import { type NativeBuckets, NativeHistogram, observations } from "../series/native.ts";
import type { MetricFields, Shapes } from "../series/shape.ts";

/** By the metric's index in the shape; null of a counter. */
type Natives = readonly (NativeHistogram | null)[];

export class RestoredNatives {
  private readonly byKey = new Map<string, Natives>();
  private isSettled = false;

  constructor(private readonly shape: Pick<Shapes[0], "metrics">) {}

  /** What one thread counted when it saved its buckets. */
  addTotal(labelKey: string, total: Float64Array): void {
    for (const [metric, native] of this.of(labelKey).entries()) native?.markPlaced(total, this.fieldsOf(metric).from);
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
      const settled = this.of(labelKey).map((native, metric) => native && settle(native, total, this.fieldsOf(metric)));
      this.byKey.set(labelKey, settled);
    }
  }

  /** The label set is let go of. */
  drop(labelKey: string): void {
    this.byKey.delete(labelKey);
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
      natives = this.shape.metrics.map(({ bounds }) => bounds && new NativeHistogram(bounds));
      this.byKey.set(labelKey, natives);
    }
    return natives;
  }

  private fieldsOf(metric: number): MetricFields {
    return this.shape.metrics[metric] as MetricFields;
  }
}

/** A state without buckets, or with those of some threads alone, is none to go on from. */
function settle(native: NativeHistogram, total: Float64Array, { from, bounds }: MetricFields): NativeHistogram {
  const isWhole = bounds === null || observations(native.buckets) === native.count;
  const settled = isWhole ? native : new NativeHistogram(bounds);
  settled.follow(total, from, -1);
  return settled;
}
