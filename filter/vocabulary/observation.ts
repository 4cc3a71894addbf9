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
// Kind 2: a TCP connection, so far: its entries are periodic and then final, and each says all again. What was counted for it is in parts,
// one for each label set; the first parts never change their label set, a later entry may have more of them.
//
//   offset  0      1     2      3         4        5          8            16              24
//          +------+-----+------+---------+--------+----------+------------+---------------+-------+----------------------------
//          | ver. |kind |labels| omitted | closed | 0 x 3    | start ms   | connection id | count | count x
//          | u8   |u8   |u8    | u8      | u8     |          | u64        | u64           | u8    | (u8 metrics, u64 sent bytes,
//          |      |     |      |         |        |          |            |               |       |  u64 received bytes, labels)
//          +------+-----+------+---------+--------+----------+------------+---------------+-------+----------------------------
// Bits of "omitted" and "metrics" are those of TCP_METRICS. A part's numbers are since the connection began, and count where the part has
// the metric's bit: 1 opened, 1 closed if "closed" is 1, its bytes. Opened and closed are in at most one part each; bytes are in several where
// the peer became known after the first report. "connection id" is Envoy's, unique in a process life. The two labels that TCP metrics do not carry
// are empty. Before its first report a connection has no parts.
//
// A packed label set is in the order of LABELS; its bytes are its identity. Its values are those that the stats carry, overridden ones
// included; a label that was removed is the empty value. Labels besides LABELS are not in it: the collector adds up stats that differ in those alone.

export const OBSERVATION_VERSION = 1;
/** One label set for all metrics. */
export const OBSERVATION_KIND_HTTP = 0;
/** Several label sets, each with the metrics that carry it. */
export const OBSERVATION_KIND_HTTP_SPLIT = 1;
/** A TCP connection, so far. */
export const OBSERVATION_KIND_TCP = 2;

export const OBSERVATION_KIND_OFFSET = 1;
export const OBSERVATION_LABEL_COUNT_OFFSET = 2;
export const OBSERVATION_OMITTED_OFFSET = 3;
export const OBSERVATION_START_OFFSET = 8;
export const OBSERVATION_DURATION_OFFSET = 16;
export const OBSERVATION_REQUEST_BYTES_OFFSET = 24;
export const OBSERVATION_RESPONSE_BYTES_OFFSET = 32;
/** Kind 0: the label set. Kind 1: how many label sets follow. */
export const OBSERVATION_LABELS_OFFSET = 40;

// Kind 2.
export const OBSERVATION_CLOSED_OFFSET = 4;
export const OBSERVATION_CONNECTION_OFFSET = 16;
/** How many parts follow. */
export const OBSERVATION_PARTS_OFFSET = 24;
/** Where a part has its bytes and its labels, from its first byte on. */
export const OBSERVATION_PART_SENT_OFFSET = 1;
export const OBSERVATION_PART_RECEIVED_OFFSET = 9;
export const OBSERVATION_PART_LABELS_OFFSET = 17;
