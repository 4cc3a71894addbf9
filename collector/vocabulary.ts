// The collector's one door to filter/vocabulary, the words that filter and collector share.

export { HTTP_LABEL_COUNT, isTcpLabel, LABELS, Label } from "../filter/vocabulary/labels.ts";
export {
  BUILD_METRIC,
  EXCHANGE_METRICS,
  FAULT_REASONS,
  FAULTS_METRIC,
  HISTOGRAM_BOUNDS,
  HTTP_METRICS,
  HttpMetric,
  MAX_NODE_ID_BYTES,
  MESSAGE_METRICS,
  Metric,
  MetricKind,
  NODE_METRIC,
  REASON_LABEL,
  START_TIME_METRIC,
  TCP_METRICS,
  TcpMetric,
} from "../filter/vocabulary/metrics.ts";
export { firstSegment, spiffeNamespace } from "../filter/vocabulary/name-rules.ts";
export * from "../filter/vocabulary/observation.ts";
export {
  DESTINATION_NAMES,
  Naming,
  namingOf,
  type Overflow,
  overflowOf,
  SOURCE_NAMES,
} from "../filter/vocabulary/overflow.ts";
export * from "../filter/vocabulary/peer-metadata.ts";
export {
  BUILD_PREFIX,
  BUILD_SUFFIX,
  cleanValue,
  encodeTag,
  FIELD_SEPARATOR,
  MAX_VALUE_BYTES,
  tagRegex,
  VALUE_SEPARATOR,
} from "../filter/vocabulary/stat-name.ts";
export * from "../filter/vocabulary/values.ts";
