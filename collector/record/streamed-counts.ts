// What one process has told of its own series over a stream of flushes, made cumulative: StatsReport as a scrape would make it.
//
// - A counter comes as it stands, or as its delta since the flush before (`report_counters_as_deltas`): the sender has to say which.
//   As it stands, it may fall: Envoy drops a counter with the last wasm VM that defined it, and defines it anew, from 0; and
//   `POST /reset_counters` sets it to 0. Flushes come in their order, so one that is below the last began anew.
// - A histogram comes as its delta always. What was flushed while there was no stream is not in it: never too much, but too little.

import { emptyHistogram, type MetricFields, type Shapes } from "../series/shape.ts";
import { HTTP_METRICS, HttpMetric, TCP_METRICS } from "../vocabulary.ts";
import { type Flush, widthOf } from "./from-families.ts";
import type { HistogramSample, StatsReport, StatsSample, TcpSample } from "./record.ts";
import type { Stat } from "./stat-names.ts";

/** Room for the label sets of all processes together. */
export class Room {
  taken = 0;

  constructor(private readonly limit: number) {}

  /** False when there is none. */
  take(): boolean {
    if (this.taken >= this.limit) return false;
    this.taken++;
    return true;
  }

  give(count: number): void {
    this.taken -= count;
  }
}

/** A label set of a process: what it counted in all, as a sample of a report, and each counter as it stood last. */
interface Counted<Sample> {
  readonly sample: Sample;
  readonly last: number[];
}

/** What is known of one label set, to be saved. */
export interface StreamedLabelSet {
  /** Index of the shape. */
  readonly table: number;
  /** Of the stat, and as it is counted. */
  readonly id: string;
  readonly labelKey: string;
  /** What it counted in all. Sums are as they came, and not in parts of which rows else consist: more is to be added. */
  readonly row: Float64Array;
  /** Each counter as it stood last; one that comes as deltas has none. */
  readonly last: readonly number[];
}

export class StreamedCounts {
  /** Times that counters of a label set began anew. */
  resets = 0;
  /** By the id of the stat. */
  private readonly http = new Map<string, Counted<StatsSample>>();
  private readonly tcp = new Map<string, Counted<TcpSample>>();
  /** Whether two of them may have one label key: they differ in labels that are none of ours. */
  private hasTwins = false;

  constructor(
    private readonly room: Room,
    private readonly shapes: Shapes,
  ) {}

  get size(): number {
    return this.http.size + this.tcp.size;
  }

  /** Gives its room back; it must not be used any more. */
  release(): void {
    this.room.give(this.size);
    this.http.clear();
    this.tcp.clear();
  }

  /** Takes what came of a flush. `areDeltas`: of counters. False when some of it found no room. */
  take({ stats, numbers }: Flush, areDeltas: boolean): boolean {
    const { bounds } = this.shapes[0].layout;
    let at = 0;
    let isAllTaken = true;
    for (const stat of stats) {
      if (!this.takeStat(stat, numbers, at, areDeltas)) isAllTaken = false;
      at += widthOf(stat, bounds);
    }
    return isAllTaken;
  }

  /** All that was counted. Its samples are those that grow with the next flush. */
  report(proxy: string, lifeMs: number): StatsReport {
    const samples = Array.from(this.http.values(), ({ sample }) => sample);
    const tcpSamples = Array.from(this.tcp.values(), ({ sample }) => sample);
    if (!this.hasTwins) return { proxy, lifeMs, samples, tcpSamples }; // fast
    return {
      proxy,
      lifeMs,
      samples: sumOf(samples, (sum, sample) => this.addHttp(sum, sample)),
      tcpSamples: sumOf(tcpSamples, addTcp),
    };
  }

  /** Each label set; its row is valid until the next. */
  *held(): Generator<StreamedLabelSet> {
    const [http, tcp] = this.shapes;
    const row = new Float64Array(http.width);
    for (const [id, { sample, last }] of this.http) {
      row.fill(0);
      http.add(row, sample);
      for (const [metric, histogram] of sample.histograms.entries()) {
        if (histogram) row[(http.metrics[metric] as MetricFields).sum] = histogram.sum;
      }
      yield { table: http.index, id, labelKey: sample.labelKey, row, last: standing(last) };
    }
    const tcpRow = new Float64Array(tcp.width);
    for (const [id, { sample, last }] of this.tcp) {
      tcpRow.fill(0);
      tcp.add(tcpRow, sample);
      yield { table: tcp.index, id, labelKey: sample.labelKey, row: tcpRow, last: standing(last) };
    }
  }

  /** Goes on where a collector before this one ended. False when there is no room. */
  restore({ table, id, labelKey, row, last }: StreamedLabelSet): boolean {
    if (!this.room.take()) return false;
    if (id !== labelKey) this.hasTwins = true;
    const [http, tcp] = this.shapes;
    if (table === http.index) {
      const { sample } = newHttp(labelKey);
      http.write(sample, row);
      this.http.set(id, { sample, last: [...last] });
    } else {
      const { sample } = newTcp(labelKey);
      tcp.write(sample, row);
      this.tcp.set(id, { sample, last: [...last] });
    }
    return true;
  }

  private takeStat(stat: Stat, numbers: readonly number[], at: number, areDeltas: boolean): boolean {
    if (stat.id !== stat.labelKey) this.hasTwins = true;
    if (stat.metric >= HTTP_METRICS.length) return this.takeTcp(stat, numbers[at] as number, areDeltas);
    const counted = this.find(this.http, stat.id, () => newHttp(stat.labelKey));
    if (counted === null) return false;
    const { sample } = counted;
    if (stat.metric !== HttpMetric.Requests) addInterval(this.histogramOf(sample, stat.metric), numbers, at);
    else sample.requests = Math.max(sample.requests, 0) + this.gain(counted.last, 0, numbers[at] as number, areDeltas);
    return true;
  }

  private takeTcp({ metric, labelKey, id }: Stat, value: number, areDeltas: boolean): boolean {
    const index = metric - HTTP_METRICS.length;
    const counted = this.find(this.tcp, id, () => newTcp(labelKey));
    if (counted === null) return false;
    const { counts } = counted.sample;
    counts[index] = Math.max(counts[index] as number, 0) + this.gain(counted.last, index, value, areDeltas);
    return true;
  }

  private find<T>(all: Map<string, T>, id: string, make: () => T): T | null {
    let counted = all.get(id);
    if (counted === undefined) {
      if (!this.room.take()) return null;
      counted = make();
      all.set(id, counted);
    }
    return counted;
  }

  /** By how much it grew. */
  private gain(last: number[], index: number, value: number, isDelta: boolean): number {
    if (isDelta) return value;
    const before = last[index] ?? 0;
    last[index] = value;
    if (value >= before) return value - before;
    this.resets++;
    return value;
  }

  private histogramOf(sample: StatsSample, metric: number): HistogramSample {
    const histogram = sample.histograms[metric] ?? emptyHistogram(this.shapes[0].layout.bounds);
    sample.histograms[metric] = histogram;
    return histogram;
  }

  private addHttp(sum = newHttp("").sample, { labelKey, requests, histograms }: StatsSample): StatsSample {
    const all = { ...sum, labelKey, requests: addCount(sum.requests, requests) };
    for (const [metric, histogram] of histograms.entries()) {
      if (!histogram) continue;
      const { cumulative, count, sum: total } = histogram;
      addInterval(this.histogramOf(all, metric), [...cumulative, count, total], 0);
    }
    return all;
  }
}

/** Of those that did not come yet, 0: so they began. */
function standing(last: readonly number[]): number[] {
  return Array.from(last, (count) => count ?? 0);
}

function newHttp(labelKey: string): Counted<StatsSample> {
  return { sample: { labelKey, requests: -1, histograms: HTTP_METRICS.map(() => null) }, last: [] };
}

function newTcp(labelKey: string): Counted<TcpSample> {
  return { sample: { labelKey, counts: TCP_METRICS.map(() => -1) }, last: [] };
}

function addInterval(histogram: HistogramSample, numbers: readonly number[], at: number): void {
  const { cumulative } = histogram;
  const buckets = cumulative.length;
  if (numbers[at + buckets] === 0) return; // fast: most label sets rest
  for (let bucket = 0; bucket < buckets; bucket++) {
    cumulative[bucket] = (cumulative[bucket] as number) + (numbers[at + bucket] as number);
  }
  histogram.count += numbers[at + buckets] as number;
  histogram.sum += numbers[at + buckets + 1] as number;
}

/** One sample for each label set: those that differ only in labels which are not ours name the same, and their counts add up. */
function sumOf<Sample extends { readonly labelKey: string }>(
  samples: readonly Sample[],
  add: (sum: Sample | undefined, sample: Sample) => Sample,
): Sample[] {
  const sums = new Map<string, Sample>();
  for (const sample of samples) sums.set(sample.labelKey, add(sums.get(sample.labelKey), sample));
  return [...sums.values()];
}

function addTcp(sum: TcpSample | undefined, { labelKey, counts }: TcpSample): TcpSample {
  return { labelKey, counts: counts.map((count, metric) => addCount(sum?.counts[metric] ?? -1, count)) };
}

/** -1 stands for a count that there is not. */
function addCount(sum: number, count: number): number {
  return count < 0 ? sum : Math.max(sum, 0) + count;
}
