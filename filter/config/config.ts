// Plugin configuration bytes -> Config. A broken part is logged, counted and left at its default; nothing here stops the filter.
// Every field is documented in docs/filter.md.

import { Custom } from "../custom/custom.ts";
import { HostRules } from "../hosts.ts";
import { JsonKind, JsonReader } from "../wire/json.ts";
import { AccessLogConfig, readAccessLogConfig } from "./access-log.ts";
import { ExchangeConfig } from "./exchange.ts";
import { readHostRules } from "./hosts.ts";
import { MetricsConfig } from "./metrics.ts";
import { beginReading, complain, endReading, Section } from "./reading.ts";

/** Which end of a call the listener is said to be. */
export enum Direction {
  /** Decided for each stream from the listener's traffic direction. */
  Auto,
  Inbound,
  Outbound,
  Gateway,
}

const DIRECTIONS: readonly string[] = ["auto", "inbound", "outbound", "gateway"];

/** Istio's `reporter`. */
enum Reporter {
  Unspecified,
  ServerGateway,
}

const REPORTERS: readonly string[] = ["UNSPECIFIED", "SERVER_GATEWAY"];

/** Smallest and largest `max_label_sets`: Envoy keeps each label set, with 4 metrics, for as long as it runs. */
const MIN_LABEL_SETS = 1;
const MAX_LABEL_SETS = 100000;

/** Fields of Istio's stats filter and of its predecessors that have no effect here. */
const LEGACY: readonly string[] = [
  "debug",
  "stat_prefix",
  "field_separator",
  "value_separator",
  "max_peer_cache_size",
  "rotation_interval",
  "graceful_deletion_interval",
];

/** Istio's default for `tcp_reporting_duration`. */
const REPORTING_INTERVAL_MS: u64 = 5000;

let nextSerial: u32 = 1;

@final
export class Config {
  /** Different for each Config of this VM: stands for it in keys. */
  readonly serial: u32 = nextSerial++;
  direction: Direction = Direction.Auto;
  /** Istio's `reporter: SERVER_GATEWAY`. */
  isWaypoint: bool = false;
  disableHostHeaderFallback: bool = false;
  /** How often what is in flight is reported; 0: only at its end. */
  reportingIntervalMs: u64 = REPORTING_INTERVAL_MS;
  maxLabelSets: i32 = 1000;
  /** Whether a client's proxy says what it knows of the connection's encryption; Istio's says `unknown`. */
  sourceSecurityPolicy: bool = false;
  /** What is not standard in the metrics; null when nothing is. */
  custom: Custom | null = null;
  readonly exchange: ExchangeConfig = new ExchangeConfig();
  /** null: the authority names the service as it is. */
  hosts: HostRules | null = null;
  /** null: nothing is said to access loggers. */
  accessLog: AccessLogConfig | null = null;
}

export function parseConfig(ptr: usize, size: usize): Config {
  const config = new Config();
  if (size === 0) return config;
  const reader = new JsonReader();
  const json = reader.parse(ptr, size);
  if (json === null) {
    complain(`not JSON (in a google.protobuf.StringValue): error at byte ${reader.errorAt}; the defaults are used`);
    return config;
  }
  if (json.kind !== JsonKind.Object) {
    complain("expected a JSON object; the defaults are used");
    return config;
  }
  beginReading();
  const root = new Section(json, "");
  root.ignore(LEGACY);
  config.direction = root.choice("direction", DIRECTIONS, Direction.Auto);
  config.isWaypoint = root.choice("reporter", REPORTERS, Reporter.Unspecified) === Reporter.ServerGateway;
  config.disableHostHeaderFallback = root.bool("disable_host_header_fallback", false);
  config.reportingIntervalMs = root.durationMs("tcp_reporting_duration", REPORTING_INTERVAL_MS);
  config.maxLabelSets = root.whole("max_label_sets", config.maxLabelSets, MIN_LABEL_SETS, MAX_LABEL_SETS);
  config.sourceSecurityPolicy = root.bool("source_security_policy", false);
  const metrics = new MetricsConfig();
  metrics.read(root);
  if (!metrics.isStandard) config.custom = new Custom(metrics);
  config.exchange.read(root.section("metadata_exchange"));
  config.hosts = readHostRules(root.section("host_normalization"));
  config.accessLog = readAccessLogConfig(root.section("access_log_policy"));
  endReading();
  return config;
}
