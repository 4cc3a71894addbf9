// The traffic families as delimited protobuf (metric-family.ts).
//
// A family is one message, and its length stands first. So of each family the values are encoded first, some hundred bytes a label set;
// then it is written, with the labels, of which only the lengths were needed before.

import { METRIC_HELP } from "../../help.ts";
import { type NativeBuckets, observations } from "../../series/native.ts";
import type { LabelSet } from "../../series/reader.ts";
import type { Family, TrafficFamilies } from "./families.ts";
import type { LabelWriter } from "./label-set.ts";
import { encodeHead, metricFieldLength, putHistogram, putMetricHead, putSingleValue } from "./metric-family.ts";
import { putNativeFields } from "./native-fields.ts";
import { Pages } from "./pages.ts";
import { ByteWriter, varintLength } from "./writer.ts";

const VALUES_BYTES = 256 * 1024;
/** Label sets whose values are encoded before others get their turn: a millisecond. */
const LABEL_SETS_A_TURN = 500;
const METRIC_HEAD_BYTES = 12;
const NOTHING = Buffer.alloc(0);

interface EncodedMetric {
  readonly labels: LabelWriter;
  readonly labelKey: string;
  /** Of labels and value. */
  readonly bytes: number;
  readonly value: Buffer;
}

export class ProtobufTraffic {
  private readonly families: readonly (Family & { readonly head: Buffer })[];
  private readonly counts: Float64Array;
  private readonly native = new ByteWriter(4096);

  constructor(families: TrafficFamilies) {
    this.counts = new Float64Array(families.rowWidth);
    this.families = families.all.map((family) => {
      const { name, unit } = family.metric;
      const type = family.histogram === null ? "counter" : "histogram";
      return { ...family, head: encodeHead({ name, help: METRIC_HELP[name] ?? "", type, unit }) };
    });
  }

  /**
   * All families that have a metric. A piece is valid until the one after the next is asked for; an empty one only says that others may
   * have their turn. A histogram is of one moment; the whole is not.
   */
  *render(): Generator<Buffer> {
    const pages = new Pages();
    for (const family of this.families) {
      const metrics: EncodedMetric[] = [];
      yield* this.encodeValues(family, metrics);
      if (metrics.length > 0) yield* putFamily(family.head, metrics, pages);
    }
    if (pages.page.at > 0) yield pages.take();
  }

  private *encodeValues(family: Family, metrics: EncodedMetric[]): Generator<Buffer> {
    const { table, labelsOf, count } = family;
    let values = new ByteWriter(VALUES_BYTES);
    for (const [index, series] of table.series.entries()) {
      if (index % LABEL_SETS_A_TURN === LABEL_SETS_A_TURN - 1) yield NOTHING;
      const labels = labelsOf(series);
      if (labels === null) continue;
      table.readTotal(series, this.counts);
      if (this.counts[count] === 0) continue;
      if (values.at > VALUES_BYTES / 2) values = new ByteWriter(VALUES_BYTES);
      const value = this.encodeValue(values, family, series);
      metrics.push({
        labels,
        labelKey: series.labelKey,
        bytes: labels.pairsLength(series.labelKey) + value.length,
        value,
      });
    }
  }

  private encodeValue(to: ByteWriter, { table, index, histogram, count }: Family, series: LabelSet): Buffer {
    const { counts } = this;
    const from = to.at;
    if (histogram === null) {
      putSingleValue(to, "counter", counts[count] as number);
    } else {
      const observed = { count: counts[count] as number, sum: counts[histogram.sum] as number };
      const cumulative = histogram.bounds.map((_, index) => counts[histogram.fields[index] as number] as number);
      putHistogram(
        to,
        observed,
        histogram.bounds,
        cumulative,
        this.nativeFields(table.readNative(series, index), observed.count),
      );
    }
    return to.bytes.subarray(from, to.at);
  }

  /**
   * Valid until the next. None where they are not as many as the count says, as beside a total that was shown before a restart: Prometheus
   * would take nothing of the whole page.
   */
  private nativeFields(buckets: NativeBuckets | null, count: number): Buffer | null {
    if (buckets === null || observations(buckets) !== count) return null;
    this.native.at = 0;
    putNativeFields(this.native, buckets);
    return this.native.written();
  }
}

function* putFamily(head: Buffer, metrics: readonly EncodedMetric[], pages: Pages): Generator<Buffer> {
  const length = metrics.reduce((sum, { bytes }) => sum + metricFieldLength(bytes), head.length);
  const before = pages.reserve(varintLength(length) + head.length);
  if (before !== null) yield before;
  pages.page.putVarint(length);
  pages.page.put(head);
  for (const { labels, labelKey, bytes, value } of metrics) {
    const piece = pages.reserve(METRIC_HEAD_BYTES + bytes);
    if (piece !== null) yield piece;
    putMetricHead(pages.page, bytes);
    labels.putPairs(pages.page, labelKey);
    pages.page.put(value);
  }
}
