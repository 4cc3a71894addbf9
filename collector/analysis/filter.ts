// Which sides a reader wants: `code=500..599&source.service=web*`. Several fields must all match, a field that is repeated by any of its values.

import { quote } from "../error.ts";
import { ANALYZERS } from "../identity/chain.ts";
import { DETECT_POINTS, type Party, PROTOCOLS, ROLES, type Side, TLS_MODES, UNKNOWN_REASONS } from "./side.ts";

type Value = string | number | boolean | null;

/** Whether a value of a side is one that was asked for. */
type Test = (value: Value) => boolean;

interface Field {
  readonly expected: string;
  /** All of a list; one of any other field. */
  readonly read: (side: Side) => readonly Value[];
  /** Null for a text that is no filter of this field. */
  readonly parse: (text: string) => Test | null;
}

/** More than anybody types. */
const MAX_VALUES = 64;
const MAX_VALUE_LENGTH = 256;

/** What stands for a value that is not known, or an empty list. */
const NULL = "null";

export type Filter = (side: Side) => boolean;

/** The filter, or what is wrong with it. */
export function parseFilter(query: URLSearchParams): Filter | string {
  if (query.size > MAX_VALUES) return `more than ${MAX_VALUES} values to filter by`;
  const wanted = new Map<Field, Test[]>();
  for (const [name, text] of query) {
    const field = FIELDS.get(name);
    if (field === undefined) {
      return `there is no field ${quote(name)}, expected one of ${[...FIELDS.keys()].join(", ")}`;
    }
    const test = text.length > MAX_VALUE_LENGTH ? null : text === NULL ? isNull : field.parse(text);
    if (test === null) return `${name}: found ${quote(text)}, expected ${field.expected}`;
    wanted.set(field, [...(wanted.get(field) ?? []), test]);
  }
  const parts = [...wanted];
  return (side) =>
    parts.every(([field, tests]) => {
      const values = field.read(side);
      return tests.some((test) => values.some(test));
    });
}

const isNull: Test = (value) => value === null;

// === kinds of fields ===

type Read = (side: Side) => Value;

function text(read: Read): Field {
  const expected = `text, with * for any part of it, or ${NULL}`;
  return { expected, read: (side) => [read(side)], parse: parseText };
}

/** Of a closed set, so that a value that can never match is told. */
function choice(choices: readonly string[], read: Read): Field {
  return {
    expected: `one of ${choices.join(", ")}, with * for any part of it, or ${NULL}`,
    read: (side) => [read(side)],
    parse: (pattern) => (choices.some((each) => matches(each, pattern)) ? parseText(pattern) : null),
  };
}

function list(read: (side: Side) => readonly string[]): Field {
  return {
    expected: `text, with * for any part of it, or ${NULL} for none`,
    read: (side) => (read(side).length === 0 ? [null] : read(side)),
    parse: parseText,
  };
}

function number(read: Read): Field {
  const expected = `a whole number, a range such as 500..599, 100.. or ..99, or ${NULL}`;
  return { expected, read: (side) => [read(side)], parse: parseRange };
}

function flag(read: Read): Field {
  const expected = "true or false";
  const parse = (value: string) => {
    if (value !== "true" && value !== "false") return null;
    return (found: Value) => found === (value === "true");
  };
  return { expected, read: (side) => [read(side)], parse };
}

function party(name: "source" | "destination"): [string, Field][] {
  const read = (key: keyof Party) => (side: Side) => side[name][key] ?? null;
  return [
    [`${name}.service`, text(read("service"))],
    [`${name}.namespace`, text(read("namespace"))],
    [`${name}.workload`, text(read("workload"))],
    [`${name}.instance`, text(read("instance"))],
    [`${name}.analyzer`, choice(ANALYZERS, read("analyzer"))],
    [`${name}.reason`, choice(UNKNOWN_REASONS, read("reason"))],
  ];
}

/** Every field of a side, by its path. */
export const FIELDS: ReadonlyMap<string, Field> = new Map([
  ["time", text(({ time }) => time)],
  ["proxy", text(({ proxy }) => proxy)],
  ["role", choice(ROLES, ({ role }) => role)],
  ["detectPoint", choice(DETECT_POINTS, ({ detectPoint }) => detectPoint)],
  ...party("source"),
  ...party("destination"),
  ["endpoint", text(({ endpoint }) => endpoint)],
  ["protocol", choice(PROTOCOLS, ({ protocol }) => protocol)],
  ["tls", choice(TLS_MODES, ({ tls }) => tls)],
  ["code", number(({ code }) => code)],
  ["grpcStatus", number(({ grpcStatus }) => grpcStatus)],
  ["flags", list(({ flags }) => flags)],
  ["startMs", number(({ startMs }) => startMs)],
  ["latencyMs", number(({ latencyMs }) => latencyMs)],
  ["success", flag(({ success }) => success)],
  ["requestBytes", number(({ requestBytes }) => requestBytes)],
  ["responseBytes", number(({ responseBytes }) => responseBytes)],
  ["internalRequestLatencyNs", number(({ internalRequestLatencyNs }) => internalRequestLatencyNs)],
  ["internalResponseLatencyNs", number(({ internalResponseLatencyNs }) => internalResponseLatencyNs)],
]);

// === values ===

function parseText(pattern: string): Test | null {
  return pattern === "" ? null : (value) => typeof value === "string" && matches(value, pattern);
}

/** `503`, `500..599`, `100..`, `..99`. */
function parseRange(range: string): Test | null {
  const [, exact, low, high] = /^(?:(\d{1,16})|(\d{0,16})\.\.(\d{0,16}))$/.exec(range) ?? [];
  if (exact !== undefined) return (value) => value === Number(exact);
  if (low === undefined || high === undefined || (low === "" && high === "")) return null;
  const least = Number(low);
  const most = high === "" ? Number.POSITIVE_INFINITY : Number(high);
  if (least > most) return null;
  return (value) => typeof value === "number" && least <= value && value <= most;
}

/** Whether all of the text is the pattern, in which `*` stands for any text. In the time of one pass for each part, whatever they hold. */
export function matches(value: string, pattern: string): boolean {
  const parts = pattern.split("*");
  const first = parts[0] as string;
  if (parts.length === 1) return value === first;
  const last = parts.at(-1) as string;
  const end = value.length - last.length;
  if (!value.startsWith(first) || !value.endsWith(last) || first.length > end) return false;
  let at = first.length;
  for (const part of parts.slice(1, -1)) {
    const found = value.indexOf(part, at);
    if (found < 0 || found + part.length > end) return false;
    at = found + part.length;
  }
  return true;
}
