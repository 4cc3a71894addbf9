// Plugin configuration bytes -> Config. A broken part is logged, counted and left at its default; nothing here stops the filter.
// Every field is documented in filter/README.md.

import { countFault, LogLevel, log } from "./host.ts";
import { Fault } from "./vocabulary/metrics.ts";
import { JsonKind, JsonReader, JsonValue } from "./wire/json.ts";

/** Which end of a call this proxy is. */
export enum Direction {
  /** Decided for each stream from the listener's traffic direction. */
  Auto,
  Inbound,
  Outbound,
  Gateway,
}

const DIRECTIONS: readonly string[] = ["auto", "inbound", "outbound", "gateway"];

/** With which side of this proxy metadata is exchanged; bits, so that a gateway can have both. */
export const EXCHANGE_DOWNSTREAM = 1;
export const EXCHANGE_UPSTREAM = 2;
/** An inbound listener exchanges with its downstream, any other with its upstream. */
export const EXCHANGE_BY_DIRECTION = -1;

const EXCHANGE_SIDES: readonly string[] = ["downstream", "upstream"];

export class Config {
  direction: Direction = Direction.Auto;
  disableHostHeaderFallback: bool = false;
  /** EXCHANGE_BY_DIRECTION, or the bits of the sides. */
  exchange: i32 = EXCHANGE_BY_DIRECTION;
  skipExternalClusters: bool = true;
  maxLabelSets: i32 = 1000;
}

/** Smallest and largest `max_label_sets`: Envoy keeps each label set, with 4 metrics, for as long as it runs. */
const MIN_LABEL_SETS = 1;
const MAX_LABEL_SETS = 100000;

export function parseConfig(ptr: usize, size: usize): Config {
  const config = new Config();
  if (size === 0) return config;
  const reader = new JsonReader();
  const root = reader.parse(ptr, size);
  if (root === null) {
    complain(`not JSON: error at byte ${reader.errorAt}`);
    return config;
  }
  if (root.kind !== JsonKind.Object) {
    complain("expected a JSON object");
    return config;
  }
  readDirection(root.member("direction"), config);
  const noFallback = root.member("disable_host_header_fallback");
  config.disableHostHeaderFallback = readBool(noFallback, "disable_host_header_fallback", false);
  const exchange = root.member("metadata_exchange");
  if (exchange !== null && exchange.kind !== JsonKind.Object) {
    complain("metadata_exchange: expected an object, found " + quote(exchange));
  } else if (exchange !== null) {
    readExchangeSides(exchange.member("directions"), config);
    const skip = exchange.member("skip_external_clusters");
    config.skipExternalClusters = readBool(skip, "metadata_exchange.skip_external_clusters", true);
  }
  readMaxLabelSets(root.member("max_label_sets"), config);
  return config;
}

function readDirection(value: JsonValue | null, config: Config): void {
  if (value === null) return;
  const at = value.kind === JsonKind.Text ? DIRECTIONS.indexOf(value.text) : -1;
  if (at < 0) complain("direction: expected one of auto, inbound, outbound, gateway, found " + quote(value));
  else config.direction = at;
}

/** `["downstream"]`, `["upstream"]`, both, or `[]` for no exchange at all. */
function readExchangeSides(value: JsonValue | null, config: Config): void {
  if (value === null) return;
  let isInOrder = value.kind === JsonKind.List;
  let sides = 0;
  for (let i = 0; i < value.items.length; i++) {
    const side = EXCHANGE_SIDES.indexOf(value.items[i].text);
    if (side < 0) isInOrder = false;
    else sides |= 1 << side;
  }
  if (isInOrder) config.exchange = sides;
  else complain("metadata_exchange.directions: expected a list of downstream and upstream, found " + quote(value));
}

/** A bool, or the strings "true" and "false", which Istio's configuration may hold. */
function readBool(value: JsonValue | null, path: string, absent: bool): bool {
  if (value === null) return absent;
  if (value.kind === JsonKind.Bool) return value.bool;
  if (value.kind === JsonKind.Text && value.text === "true") return true;
  if (value.kind === JsonKind.Text && value.text === "false") return false;
  complain(path + ": expected true or false, found " + quote(value));
  return absent;
}

function readMaxLabelSets(value: JsonValue | null, config: Config): void {
  if (value === null) return;
  const isInRange =
    value.kind === JsonKind.Number &&
    value.number >= MIN_LABEL_SETS &&
    value.number <= MAX_LABEL_SETS &&
    Math.floor(value.number) === value.number;
  if (isInRange) config.maxLabelSets = <i32>value.number;
  else
    complain(
      `max_label_sets: expected a whole number from ${MIN_LABEL_SETS} to ${MAX_LABEL_SETS}, found ` + quote(value),
    );
}

function quote(value: JsonValue): string {
  if (value.kind === JsonKind.List) return "a list";
  if (value.kind === JsonKind.Object) return "an object";
  return '"' + value.text.substring(0, 100) + '"';
}

function complain(what: string): void {
  log(LogLevel.Error, "meshtally: configuration: " + what + "; the default is used");
  countFault(Fault.Configuration);
}
