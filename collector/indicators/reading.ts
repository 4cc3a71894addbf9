// SubjectReading: what is known of one subject at a moment.

import type { Window } from "./indicator.ts";
import type { SketchCounts } from "./latency-sketch.ts";
import type { Span } from "./slots.ts";
import type { Subject, SubjectKind, Subjects } from "./subjects.ts";

/** Sums alone, as they go from thread to thread, and add up. */
export interface SubjectSums {
  readonly kind: SubjectKind;
  /** Values of LABEL_NAMES. */
  readonly labels: readonly string[];
  /** As of Subject. */
  readonly namespace: string | null;
  /** Since it began. */
  readonly totals: Float64Array;
  /** Calls by flag since it began. */
  readonly flags: ReadonlyMap<string, number>;
  /** One for each span that was asked for. */
  readonly windows: readonly {
    readonly sums: Float64Array;
    readonly latencies: SketchCounts;
    readonly codes: ReadonlyMap<string, number>;
  }[];
}

export interface SubjectReading extends SubjectSums {
  readonly windows: readonly Window[];
}

export function readSubject({ kind, labels, namespace, indicator }: Subject, spans: readonly Span[]): SubjectReading {
  const windows = spans.map((span) => indicator.window(span));
  return { kind, labels, namespace, totals: indicator.totals(), flags: indicator.flags, windows };
}

/** Which subjects are read, and for which time. */
export interface SubjectQuery {
  readonly kind: SubjectKind;
  readonly spans: readonly Span[];
  /** A value for each label of the kind, "" for any; empty for all subjects. */
  readonly filter: readonly string[];
}

/** All that there are now, each read when it is asked for. */
export function* readSubjects(subjects: Subjects, { kind, spans, filter }: SubjectQuery): Generator<SubjectReading> {
  for (const subject of [...subjects.all(kind)]) {
    if (filter.every((value, i) => value === "" || value === subject.labels[i])) yield readSubject(subject, spans);
  }
}
