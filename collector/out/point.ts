// Points: what is told of one label set of one metric family at one moment, in the shape in which Prometheus and OpenTelemetry both know it.

export interface Family {
  /** As /metrics shows it in the text format: "istio_requests_total". */
  readonly name: string;
  readonly kind: "counter" | "gauge" | "histogram" | "summary";
  readonly help: string;
  /** "" for a plain count, else "milliseconds" or "bytes". */
  readonly unit: string;
  /**
   * Of a label set that is gone, whether it is only hidden, and goes on from where it was: then it has the same `labels`. Default: it begins
   * anew.
   */
  readonly goesOn?: (labels: Labels) => boolean;
}

/** A label set without empty values, which mean the same as no label. The same object each time that it is told of, for what is kept of it. */
export interface Labels {
  /** Tells it from others of the same family. */
  readonly key: string;
  /** By name, in code-point order. */
  readonly pairs: readonly (readonly [name: string, value: string])[];
}

interface NumberPoint {
  readonly family: Family;
  readonly labels: Labels;
  readonly value: number;
  readonly spread: null;
}

/** What a histogram has below its bounds, or a summary at its quantiles. */
export interface Spread {
  /** "le" or "quantile". */
  readonly label: SpreadLabel;
  /** Values of that label, without "+Inf": "0.5", "1". The same array each time. */
  readonly marks: readonly string[];
  /** Of each mark, then of all: of a histogram cumulative counts. Valid until the next point is taken. */
  readonly values: ArrayLike<number>;
  readonly count: number;
  readonly sum: number;
}
export type SpreadLabel = "le" | "quantile";

interface SpreadPoint {
  readonly family: Family;
  readonly labels: Labels;
  readonly value: null;
  readonly spread: Spread;
}

export type Point = NumberPoint | SpreadPoint;

/** What is got by some work: a point; or, for now, nothing. So whoever takes them can stop in time also where few points are found. */
export type Step = Point | null;

/** A label set as points have it. */
export function labelsOf(key: string, pairs: Iterable<readonly [name: string, value: string]>): Labels {
  const told = [...pairs].filter(([, value]) => value !== "");
  return { key, pairs: told.sort(([a], [b]) => (a < b ? -1 : 1)) };
}
