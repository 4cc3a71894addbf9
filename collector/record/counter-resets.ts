// Makes a target's readings cumulative over its whole process life: stats -> the same, with what earlier generations counted.
//
// Envoy drops a counter with the last wasm VM that defined it, and defines it anew, from 0, for the VM that follows: another
// vm_id, another .wasm, a listener removed and added. `POST /reset_counters` sets counters, but no histograms, back to 0.
// The process goes on meanwhile, and so does its start time where another VM keeps that. The readings of one target come one
// after the other, so one below the reading before it is of a new generation. (The store cannot tell: to it, a lower
// reading is a late one.) What has reached its last reading again before it is read is not noticed: that is short, never over.
//
// Each metric is judged by its own fall alone. Nothing follows from one for another: histograms lag behind by a flush, and go on
// where /reset_counters sets counters back; and a configuration may keep requests out of one metric, or give them other labels there.

import {
  addFromStats,
  COUNTS_WIDTH,
  HISTOGRAM_COUNT,
  HISTOGRAM_SUM,
  HISTOGRAM_WIDTH,
  histogramField,
  REQUESTS,
} from "../series/counts.ts";
import { BUCKET_COUNT } from "../series/histogram.ts";
import { Slab } from "../series/slab.ts";
import { HTTP_METRICS, HttpMetric } from "../vocabulary.ts";
import type { HistogramSample, StatsReport, StatsSample } from "./record.ts";

const HISTOGRAMS = [HttpMetric.Duration, HttpMetric.RequestBytes, HttpMetric.ResponseBytes] as const;

/** Where readings are kept: one for all targets. */
export class CounterRows extends Slab {
  constructor() {
    super(COUNTS_WIDTH);
  }
}

/** One label set of one target: 0.7 KB, and 0.5 KB more once it began anew. */
class Counter {
  /** Row: the last reading of each field; of what an answer leaves out, the one before. */
  readonly last: number;
  /** Row: what the generations before counted; negative while this is the first. */
  base = -1;
  /** The reading in which it was seen last. */
  reading = 0;
  /** How often each metric began anew. */
  readonly falls: number[] = HTTP_METRICS.map(() => 0);
  /** The most of `falls`. */
  generations = 0;

  constructor(
    readonly labelKey: string,
    rows: Slab,
  ) {
    this.last = rows.allocate();
  }
}

/** The counters of one target: as many as it shows in one process life. The filter has a cap for that, which each VM may fill anew. */
export class CounterResets {
  /** Generations that began after another, in all. */
  count = 0;
  private lifeMs = 0;
  private reading = 0;
  private readonly counters = new Map<string, Counter>();
  private readonly scratch = new Float64Array(COUNTS_WIDTH);

  constructor(private readonly rows: CounterRows) {}

  /**
   * Takes the target's next reading, whose samples it may change, and returns it as cumulative: each label set with all that it
   * ever counted, those included that vanished with their VM.
   */
  accumulate(report: StatsReport): StatsReport {
    if (report.lifeMs !== this.lifeMs) this.forget();
    this.lifeMs = report.lifeMs;
    this.reading++;
    for (const sample of report.samples) this.take(sample);
    if (report.samples.length === this.counters.size) return report; // fast: nothing vanished
    return { ...report, samples: [...report.samples, ...this.vanished()] };
  }

  /** A new process begins at 0, and so does its account. */
  private forget(): void {
    for (const { last, base } of this.counters.values()) {
      this.rows.release(last);
      if (base >= 0) this.rows.release(base);
    }
    this.counters.clear();
  }

  private take(sample: StatsSample): void {
    let counter = this.counters.get(sample.labelKey);
    if (!counter) {
      counter = new Counter(sample.labelKey, this.rows);
      this.counters.set(sample.labelKey, counter);
    }
    counter.reading = this.reading;
    this.scratch.fill(0);
    addFromStats(this.scratch, sample);
    this.beginAnew(counter, sample);
    this.keep(counter, sample);
    if (counter.base >= 0) this.write(counter, sample);
  }

  /** Puts what the reading shows to be over into the base. */
  private beginAnew(counter: Counter, sample: StatsSample): void {
    if (sample.requests >= 0 && this.hasFallen(counter, REQUESTS, REQUESTS)) {
      this.endGeneration(counter, HttpMetric.Requests, REQUESTS, REQUESTS + 1);
    }
    for (const metric of HISTOGRAMS) {
      const field = histogramField(metric);
      if (!sample.histograms[metric] || !this.hasFallen(counter, field, field + HISTOGRAM_COUNT)) continue;
      this.endGeneration(counter, metric, field, field + HISTOGRAM_WIDTH);
    }
  }

  /** Whether one of these fields, the last included, is below its last reading. */
  private hasFallen(counter: Counter, from: number, last: number): boolean {
    for (let field = from; field <= last; field++) {
      if ((this.scratch[field] as number) < this.at(counter.last, field)) return true;
    }
    return false;
  }

  /** Adds the metric's last reading, fields [from, to), to the base, so that the next one counts from 0. */
  private endGeneration(counter: Counter, metric: HttpMetric, from: number, to: number): void {
    const falls = (counter.falls[metric] as number) + 1;
    counter.falls[metric] = falls;
    if (falls > counter.generations) {
      counter.generations = falls; // the other metrics may begin anew by a later reading
      this.count++;
    }
    if (counter.base < 0) counter.base = this.rows.allocate();
    const { rows } = this;
    const base = rows.chunk(counter.base);
    const last = rows.chunk(counter.last);
    const baseAt = rows.offset(counter.base);
    const lastAt = rows.offset(counter.last);
    for (let field = from; field < to; field++) {
      base[baseAt + field] = (base[baseAt + field] as number) + (last[lastAt + field] as number);
      last[lastAt + field] = 0;
    }
  }

  /** Keeps the reading, as far as it goes, for the next to be compared with. */
  private keep(counter: Counter, sample: StatsSample): void {
    const last = this.rows.chunk(counter.last);
    const at = this.rows.offset(counter.last);
    if (sample.requests >= 0) last[at + REQUESTS] = sample.requests;
    for (const metric of HISTOGRAMS) {
      if (!sample.histograms[metric]) continue;
      const field = histogramField(metric);
      last.set(this.scratch.subarray(field, field + HISTOGRAM_SUM + 1), at + field);
    }
  }

  /** Base and last reading, as a sample. Each is a whole histogram, and so is their sum: no bucket is above its count. */
  private write(counter: Counter, sample: StatsSample): void {
    sample.requests = this.total(counter, REQUESTS);
    for (const metric of HISTOGRAMS) {
      const field = histogramField(metric);
      const histogram = sample.histograms[metric] ?? emptyHistogram();
      for (let bucket = 0; bucket < BUCKET_COUNT; bucket++) {
        histogram.cumulative[bucket] = this.total(counter, field + bucket);
      }
      histogram.count = this.total(counter, field + HISTOGRAM_COUNT);
      histogram.sum = this.total(counter, field + HISTOGRAM_SUM);
      sample.histograms[metric] = histogram;
    }
  }

  /** Samples of the label sets that the reading lacks: where several share one account, their sum must not go down. */
  private vanished(): StatsSample[] {
    const samples: StatsSample[] = [];
    for (const counter of this.counters.values()) {
      if (counter.reading === this.reading) continue;
      const sample: StatsSample = {
        labelKey: counter.labelKey,
        requests: -1,
        histograms: HTTP_METRICS.map(() => null),
      };
      this.write(counter, sample);
      samples.push(sample);
    }
    return samples;
  }

  private total(counter: Counter, field: number): number {
    return this.at(counter.base, field) + this.at(counter.last, field);
  }

  private at(row: number, field: number): number {
    return row < 0 ? 0 : (this.rows.chunk(row)[this.rows.offset(row) + field] as number);
  }
}

function emptyHistogram(): HistogramSample {
  return { cumulative: new Float64Array(BUCKET_COUNT), count: 0, sum: 0 };
}
