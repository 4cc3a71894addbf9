// The figures of the benches: medians, and how sure they are.

const RESAMPLES = 2000;

/** 95 % confidence. */
export interface Interval {
  readonly low: number;
  readonly high: number;
}

/** The middle value, or the mean of the two; NaN of nothing. */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const upper = sorted[sorted.length >> 1] ?? Number.NaN;
  if (sorted.length % 2 === 1) return upper;
  return ((sorted[(sorted.length >> 1) - 1] ?? Number.NaN) + upper) / 2;
}

/** Of the median, by bootstrap over the values. `random` gives numbers in [0, 1). */
export function medianInterval(values: readonly number[], random: () => number = Math.random): Interval {
  return bootstrap(values.length, (rounds) => median(pick(values, rounds)), random);
}

/** The median of `values` in terms of that of `base`: what two variants add, measured in the same rounds. */
export function ratio(values: readonly number[], base: readonly number[]): number {
  return median(values) / median(base);
}

/** Of the ratio, by bootstrap over rounds: both variants are drawn from the same rounds, since what disturbs one disturbs both. */
export function ratioInterval(
  values: readonly number[],
  base: readonly number[],
  random: () => number = Math.random,
): Interval {
  return bootstrap(values.length, (rounds) => ratio(pick(values, rounds), pick(base, rounds)), random);
}

/** Whether the interval lies within that part of the estimate: 0.1 for +-10 %. */
export function isWithin(precision: number, estimate: number, { low, high }: Interval): boolean {
  return (high - low) / 2 <= precision * estimate;
}

function bootstrap(count: number, statistic: (rounds: readonly number[]) => number, random: () => number): Interval {
  const results = Array.from({ length: RESAMPLES }, () =>
    statistic(Array.from({ length: count }, () => Math.floor(random() * count))),
  ).sort((a, b) => a - b);
  return { low: results[RESAMPLES * 0.025] as number, high: results[RESAMPLES * 0.975] as number };
}

function pick(values: readonly number[], rounds: readonly number[]): number[] {
  return rounds.map((round) => values[round] as number);
}
