// KeptLabels: the labels that are kept of each label set (`metrics.labels`). Those that then are alike are one: their counts add up.
//
// It stands before the tables, so that what is left out takes no room. A sum of counts that only grow only grows; and what proxies show
// is complete (record/counter-resets.ts), so the sum is always over the same label sets, and more.

import type { AccessRecord, ConnectionRecord, StatsReport } from "../record/record.ts";
import { LABELS, type Label } from "../vocabulary.ts";
import { withMark, withoutMark } from "./key.ts";
import { DEFAULT_SHAPES, type Shape, type Shapes, TCP_SHAPE } from "./shape.ts";
import { type DestinationRule, judge, VERDICT_MARKS } from "./unified.ts";

/** At most 64 MiB with what they come to, as LabelKeys (record/packed.ts), whose strings they are. */
const MAX_KEYS = 16_384;
const MAX_KEY_LENGTH = 2048;

export class KeptLabels {
  private readonly http: KeptKeys;
  private readonly tcp: KeptKeys;

  /** `rule`: as mesh_* are to be read, for what decides on that may be left out. */
  constructor(
    kept: readonly Label[],
    rule: DestinationRule,
    private readonly shapes: Shapes = DEFAULT_SHAPES,
  ) {
    this.http = new KeptKeys(new Set(kept), shapes[0], rule);
    this.tcp = new KeptKeys(new Set(kept), shapes[1], rule);
  }

  record(record: AccessRecord): AccessRecord {
    return { ...record, labelKey: this.http.of(record.labelKey) };
  }

  connection(record: ConnectionRecord): ConnectionRecord {
    const parts = record.parts.map(({ labelKey, counts }) => ({ labelKey: this.tcp.of(labelKey), counts }));
    return { ...record, parts };
  }

  report(report: StatsReport): StatsReport {
    const [http, tcp] = this.shapes;
    const samples = this.http.samples(report.samples, http);
    return { ...report, samples, tcpSamples: this.tcp.samples(report.tcpSamples, tcp) };
  }
}

/** Of one shape. Bounded: when the young half of what it remembers is full, the old half is forgotten. */
class KeptKeys {
  private young = new Map<string, string>();
  private old = new Map<string, string>();

  constructor(
    private readonly kept: ReadonlySet<Label>,
    private readonly shape: Pick<Shape<never, never>, "index" | "width" | "overflowOf">,
    private readonly rule: DestinationRule,
  ) {}

  of(labelKey: string): string {
    const known = this.young.get(labelKey) ?? this.old.get(labelKey);
    if (known !== undefined) return known;
    const key = this.reduce(labelKey);
    if (labelKey.length > MAX_KEY_LENGTH) return key;
    if (this.young.size >= MAX_KEYS / 2) {
      this.old = this.young;
      this.young = new Map();
    }
    this.young.set(labelKey, key);
    return key;
  }

  samples<Sample extends { readonly labelKey: string }>(
    samples: readonly Sample[],
    shape: Shape<never, Sample>,
  ): Sample[] {
    const rows = new Map<string, Float64Array>();
    for (const sample of samples) {
      const key = this.of(sample.labelKey);
      const row = rows.get(key) ?? new Float64Array(shape.width);
      shape.add(row, sample);
      rows.set(key, row);
    }
    return [...rows].map(([key, row]) => {
      const sum = shape.emptySample(key);
      shape.write(sum, row);
      return sum;
    });
  }

  /** What decides whether it counts in mesh_* may go; so the verdict is kept with it where what is left does not say the same. */
  private reduce(labelKey: string): string {
    if (labelKey === this.shape.overflowOf(labelKey)) return labelKey;
    const isTcp = this.shape.index === TCP_SHAPE.index;
    const left = this.leftOf(withoutMark(labelKey));
    const verdict = judge(labelKey, isTcp, this.rule);
    return withMark(left, judge(left, isTcp, this.rule) === verdict ? null : VERDICT_MARKS[verdict]);
  }

  private leftOf(labelKey: string): string {
    let left = "";
    let at = 0;
    for (const label of LABELS.keys()) {
      const end = at + 1 + labelKey.charCodeAt(at);
      left += this.kept.has(label) ? labelKey.slice(at, end) : "\0";
      at = end;
    }
    return left;
  }
}
