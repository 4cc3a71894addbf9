// Shared with the collector: keep portable (filter/vocabulary/README.md).
// The observation: what the filter counted for one request, left as filter state `wasm.meshtally.observation` for the access
// loggers. The collector takes it from the log entry, so both channels carry the same decision (docs/adr/0002-observation.md).
//
//   offset  0      1     2      3         4          8             16           24              32               40
//          +------+-----+------+---------+----------+-------------+------------+---------------+----------------+--------
//          | ver. |kind |labels| omitted | 0 x 4    | start ms    | duration   | request bytes | response bytes | label
//          | u8   |u8   |u8    | u8      |          | u64         | ms u64     | u64           | u64            | sets
//          +------+-----+------+---------+----------+-------------+------------+---------------+----------------+--------
// Little-endian. "start ms" is START_TIME_METRIC: the process life that counted it, 0 when it is not known. "labels" is how many LABELS
// there are. Bit i of "omitted" is set where metric i of HTTP_METRICS was not recorded for this request, since the configuration drops
// it; its number stands here all the same. An observation is left also of a request that no metric recorded.
//
// Kind 0: one label set for all metrics that were recorded.       Kind 1: label sets that differ from metric to metric.
//          +----------------+                                               +-------+---------------------------+
//          | labels x       |                                               | count | count x                   |
//          | (u8 length,    |                                               | u8    | (u8 metrics, labels x     |
//          |  UTF-8 bytes)  |                                               |       |  (u8 length, UTF-8 bytes))|
//          +----------------+                                               +-------+---------------------------+
// Bit i of "metrics" is set where metric i carries that label set; each metric that is not omitted is in exactly one.
//
// A packed label set is in the order of LABELS; its bytes are its identity. Its values are those that the stats carry, overridden ones
// included; a label that was removed is the empty value. Labels besides LABELS are not in it: the collector adds up stats that differ in those alone.

export const OBSERVATION_VERSION = 1;
/** One label set for all metrics. */
export const OBSERVATION_KIND_HTTP = 0;
/** Several label sets, each with the metrics that carry it. */
export const OBSERVATION_KIND_HTTP_SPLIT = 1;

export const OBSERVATION_KIND_OFFSET = 1;
export const OBSERVATION_LABEL_COUNT_OFFSET = 2;
export const OBSERVATION_OMITTED_OFFSET = 3;
export const OBSERVATION_START_OFFSET = 8;
export const OBSERVATION_DURATION_OFFSET = 16;
export const OBSERVATION_REQUEST_BYTES_OFFSET = 24;
export const OBSERVATION_RESPONSE_BYTES_OFFSET = 32;
/** Kind 0: the label set. Kind 1: how many label sets follow. */
export const OBSERVATION_LABELS_OFFSET = 40;
