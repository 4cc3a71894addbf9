// `access_log_policy`: which requests an access logger should keep.

import { Section } from "./reading.ts";

/** Istio's defaults. */
const WINDOW_MS: u64 = 12 * 3600000;
const CLIENTS = 500;
const MAX_CLIENTS = 100000;

const SLOW_MS: u64 = 1000;

@final
export class AccessLogConfig {
  constructor(
    /** A client's successes are logged once in this time. */
    readonly windowMs: u64,
    /** Clients remembered at most, per VM. */
    readonly maxClients: i32,
    /** A request that takes as long is logged; 0: however long it takes. */
    readonly slowMs: u64,
  ) {}
}

/** null when the section is absent: nothing is decided. */
export function readAccessLogConfig(section: Section): AccessLogConfig | null {
  if (!section.isThere) return null;
  return new AccessLogConfig(
    section.durationMs("log_window_duration", WINDOW_MS),
    section.whole("max_client_cache_size", CLIENTS, 1, MAX_CLIENTS),
    section.durationMs("slow_request_duration", SLOW_MS),
  );
}
