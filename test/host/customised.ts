// Requests under a configuration that changes the metrics: each is held against the observation that it left, which must say of every
// metric what its stats say.

import { expect } from "vitest";
import { LABELS } from "../../filter/vocabulary/labels.ts";
import { HTTP_METRICS, HttpMetric } from "../../filter/vocabulary/metrics.ts";
import { OBSERVATION_KIND_HTTP, OBSERVATION_KIND_HTTP_SPLIT } from "../../filter/vocabulary/observation.ts";
import type { Host, HttpStream, StreamOptions } from "./host.ts";
import { FROM_PRODUCTPAGE, observationOf, startInbound, startOutbound, TO_REVIEWS } from "./mesh.ts";
import type { Series } from "./stats.ts";
import type { JsonObject } from "./struct.ts";

type Labels = Readonly<Record<string, string>>;

/** reviews' inbound filter with this configuration besides, in a proxy whose `stats_tags` know these labels, too. */
export function startCustomInbound(configuration: JsonObject, customLabels: readonly string[] = []): Host {
  const standard = { direction: "inbound", disable_host_header_fallback: true };
  return startInbound({ configuration: { ...standard, ...configuration }, customLabels });
}

/** productpage's outbound filter, likewise. */
export function startCustomOutbound(configuration: JsonObject, customLabels: readonly string[] = []): Host {
  return startOutbound({ configuration: { direction: "outbound", ...configuration }, customLabels });
}

/** A request from productpage that is checked (checkObservation). */
export function requestInbound(host: Host, options: StreamOptions = {}): HttpStream {
  return requestChecked(host, { ...FROM_PRODUCTPAGE, ...options });
}

/** A request to reviews that is checked (checkObservation). */
export function requestOutbound(host: Host, options: StreamOptions = {}): HttpStream {
  return requestChecked(host, { ...TO_REVIEWS, ...options });
}

function requestChecked(host: Host, options: StreamOptions): HttpStream {
  const before = counts(host);
  const stream = host.request(options);
  checkObservation(host, stream, before, options.durationNs === null);
  return stream;
}

/** The label set that the last request gave a metric: which of its series is one more than before; undefined for none. */
function recorded(host: Host, metric: string, before: ReadonlyMap<string, number>): Labels | undefined {
  const after = [...counts(host)].filter(
    ([key, count]) => key.startsWith(`${metric} `) && count !== (before.get(key) ?? 0),
  );
  expect(after.length, `${metric}: series that one request changed`).toBeLessThan(2);
  const [changed] = after;
  if (changed === undefined) return undefined;
  expect(changed[1] - (before.get(changed[0]) ?? 0), changed[0]).toBe(1);
  return JSON.parse(changed[0].slice(metric.length + 1));
}

/** How often each series was recorded, by "metric {labels}". */
function counts(host: Host): Map<string, number> {
  const standard = host.series().filter(({ name }) => HTTP_METRICS.some((metric) => metric.name === name));
  return new Map(standard.map((one) => [`${one.name} ${JSON.stringify(one.labels)}`, timesRecorded(one)]));
}

function timesRecorded(series: Series): number {
  return Number(series.value) + series.samples.length;
}

/** What stats and observation say of one request is the same: which metrics are kept, and the standard labels of each. */
function checkObservation(
  host: Host,
  stream: HttpStream,
  before: ReadonlyMap<string, number>,
  isUnfinished: boolean,
): void {
  const observation = observationOf(stream);
  const kept = new Map<number, Labels>();
  HTTP_METRICS.forEach(({ name }, index) => {
    const labels = recorded(host, name, before);
    if (labels !== undefined) kept.set(index, standardLabels(labels));
    else if (index !== HttpMetric.Duration || !isUnfinished)
      expect(observation.omitted >> index, name).toSatisfy(isOdd);
  });
  for (const [index, labels] of kept) {
    expect(observation.omitted >> index, `omitted: ${HTTP_METRICS[index]?.name}`).not.toSatisfy(isOdd);
    const carriers = observation.labelSets.filter(({ metrics }) => isOdd(metrics >> index));
    expect(
      carriers.map((one) => one.labels),
      HTTP_METRICS[index]?.name,
    ).toEqual([labels]);
  }
  if (kept.size === 0 || isUnfinished) return;
  const different = new Set([...kept.values()].map((labels) => JSON.stringify(labels)));
  expect(observation.kind).toBe(different.size > 1 ? OBSERVATION_KIND_HTTP_SPLIT : OBSERVATION_KIND_HTTP);
  expect(observation.labelSets.length).toBe(different.size);
}

function isOdd(bits: number): boolean {
  return (bits & 1) === 1;
}

/** Every standard label; one that is not carried reads "". */
function standardLabels(labels: Labels): Labels {
  return Object.fromEntries(LABELS.map((label) => [label, labels[label] ?? ""]));
}

/** The labels of the one series of a metric that are none of LABELS, without empty ones, which Prometheus takes for absent. */
export function customLabelsOf(host: Host, metric = "istio_requests_total"): Labels {
  const [first, ...more] = host.series(metric);
  if (first === undefined || more.length > 0) throw new Error(`${metric} has ${more.length + (first ? 1 : 0)} series`);
  return Object.fromEntries(Object.entries(first.labels).filter(([name, value]) => !LABELS.includes(name) && value));
}

/** The value of the one series of a metric; 0 when it has none. Throws when there are more. */
export function countOf(host: Host, metric: string): number {
  const [first, ...more] = host.series(metric);
  if (more.length > 0) throw new Error(`${metric} has ${more.length + 1} series`);
  return Number(first?.value ?? 0);
}

/** Warnings and errors that the filter has logged. */
export function complaints(host: Host): string[] {
  return host.logs.filter(({ level }) => level === "warn" || level === "error").map(({ text }) => text);
}
