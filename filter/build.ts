// istio_build: which version of Istio this proxy says it is of, as Istio's dashboards ask for it.

import { defineMetric, readProperty, record, utf8, valuePtr, valueSize } from "./host.ts";
import { BUILD_METRIC, MetricKind } from "./vocabulary/metrics.ts";
import { BUILD_PREFIX, BUILD_SUFFIX, cleanValue } from "./vocabulary/stat-name.ts";
import { UNKNOWN } from "./vocabulary/values.ts";
import { readText } from "./wire/text.ts";

const ISTIO_VERSION = utf8("xds\0node\0metadata\0ISTIO_VERSION");

/** Sets the gauge. Again is harmless: it is the same one. */
export function reportBuild(): void {
  const version = readProperty(ISTIO_VERSION) && valueSize > 0 ? readText(valuePtr, valueSize) : UNKNOWN;
  const tag = cleanValue(version.replaceAll(";", "_"));
  const name = utf8(BUILD_PREFIX + tag + BUILD_SUFFIX + BUILD_METRIC);
  record(defineMetric(MetricKind.Gauge, changetype<usize>(name), name.byteLength), 1);
}
