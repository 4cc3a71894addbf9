// Fields of io.prometheus.client.MetricFamily, for who reads it and who writes it.
// https://github.com/prometheus/client_model/blob/master/io/prometheus/client/metrics.proto

import { bytesTag, varintTag } from "./wire.ts";

export const FAMILY = {
  name: bytesTag(1),
  help: bytesTag(2),
  type: varintTag(3),
  metric: bytesTag(4),
  unit: bytesTag(5),
};
export const METRIC = {
  label: bytesTag(1),
  gauge: bytesTag(2),
  counter: bytesTag(3),
  summary: bytesTag(4),
  untyped: bytesTag(5),
  timestampMs: varintTag(6),
  histogram: bytesTag(7),
};
export const LABEL = { name: bytesTag(1), value: bytesTag(2) };
