// Remote-write requests as their receiver reads them: snappy, then protobufjs by the specification's messages.

import protobuf from "protobufjs";
import snappy from "snappyjs";

// https://prometheus.io/docs/specs/prw/remote_write_spec/#protocol
const { root } = protobuf.parse(`
syntax = "proto3";
message WriteRequest { repeated TimeSeries timeseries = 1; reserved 2; }
message TimeSeries { repeated Label labels = 1; repeated Sample samples = 2; }
message Label { string name = 1; string value = 2; }
message Sample { double value = 1; int64 timestamp = 2; }
`);
const WriteRequest = root.lookupType("WriteRequest");

export interface DecodedSeries {
  /** In the order in which they came. */
  readonly labels: readonly (readonly [string, string])[];
  readonly samples: readonly { readonly value: number; readonly timestamp: number }[];
}

export function decodeWriteRequest(body: Buffer): DecodedSeries[] {
  const message = WriteRequest.decode(snappy.uncompress(body));
  const { timeseries = [] } = WriteRequest.toObject(message, { longs: Number, defaults: true }) as {
    timeseries?: { labels: { name: string; value: string }[]; samples: { value: number; timestamp: number }[] }[];
  };
  return timeseries.map(({ labels, samples }) => ({
    labels: labels.map(({ name, value }) => [name, value] as const),
    samples,
  }));
}

/** `name{a="1",b="2"}` -> value, of series with one sample each. */
export function samplesByText(series: readonly DecodedSeries[]): Map<string, number> {
  const byText = new Map<string, number>();
  for (const { labels, samples } of series) {
    const [, ...rest] = labels;
    const text = `${labels[0]?.[1]}{${rest.map(([name, value]) => `${name}="${value}"`).join(",")}}`;
    if (byText.has(text) || samples.length !== 1) throw new Error(`${text} has more than one sample`);
    byText.set(text, samples[0]?.value as number);
  }
  return byText;
}
