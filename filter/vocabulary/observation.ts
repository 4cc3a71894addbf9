// Shared with the collector: keep portable (filter/vocabulary/README.md).
// The observation: what the filter counted for one request, left as filter state `wasm.meshtally.observation` for the access
// loggers. The collector takes it from the log entry, so both channels carry the same decision (docs/adr/0002-observation.md).
//
//   offset  0      1     2      3          8             16           24              32               40
//          +------+-----+------+----------+-------------+------------+---------------+----------------+----------------+
//          | ver. |kind |labels| 0 x 5    | start ms    | duration   | request bytes | response bytes | labels x       |
//          | u8   |u8   |u8    |          | u64         | ms u64     | u64           | u64            | (u8 length,    |
//          +------+-----+------+----------+-------------+------------+---------------+----------------+  UTF-8 bytes)  |
//                                                                                                     +----------------+
// Little-endian. "start ms" is START_TIME_METRIC: the process life that counted it, 0 when it is not known. The part from offset 40 is the packed
// label set, in the order of LABELS; its bytes are its identity.

export const OBSERVATION_VERSION = 1;
export const OBSERVATION_KIND_HTTP = 0;

export const OBSERVATION_KIND_OFFSET = 1;
export const OBSERVATION_LABEL_COUNT_OFFSET = 2;
export const OBSERVATION_START_OFFSET = 8;
export const OBSERVATION_DURATION_OFFSET = 16;
export const OBSERVATION_REQUEST_BYTES_OFFSET = 24;
export const OBSERVATION_RESPONSE_BYTES_OFFSET = 32;
export const OBSERVATION_LABELS_OFFSET = 40;
