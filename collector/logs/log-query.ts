// The parameters of /api/v1/logs -> LogQuery: `service=reviews&code=5xx&latencyMs=100..&from=15m`. Several parameters must all match, one that
// is repeated by any of its values.

import { DETECT_POINTS, PROTOCOLS, ROLES } from "../analysis/side.ts";
import { quote } from "../error.ts";
import { LOG_REASONS } from "../self.ts";
import type { Condition, Cursor, Edge, LogQuery, NumberColumn, Range, TextColumn } from "./store.ts";

const DEFAULT_LIMIT = 50;
const MAX_LIMIT = 1000;
/** More than anybody types. */
const MAX_VALUES = 64;
const MAX_VALUE_LENGTH = 256;
/** What stands for a value that is not known, or an empty list. */
const NULL = "null";
/** Last instant that a Date can hold, Unix ms. */
const MAX_TIME_MS = 8.64e15;
const UNITS_MS: Readonly<Record<string, number>> = { s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 };

/** A parameter that narrows down. */
interface Parameter {
  readonly expected: string;
  /** Null for texts of which one is no value of it. */
  readonly parse: (texts: readonly string[]) => Condition | null;
}

/** Those that say how, not what. */
const FRAME = ["from", "to", "limit", "cursor"] as const;
type Frame = (typeof FRAME)[number];

class BadParameter extends Error {}

/** The query, or what is wrong with the parameters. */
export function parseLogQuery(query: URLSearchParams, nowMs: number): LogQuery | string {
  if (query.size > MAX_VALUES) return `more than ${MAX_VALUES} values to search by`;
  try {
    return readQuery(query, nowMs);
  } catch (error: unknown) {
    if (error instanceof BadParameter) return error.message;
    throw error;
  }
}

function readQuery(query: URLSearchParams, nowMs: number): LogQuery {
  const conditions: Condition[] = [];
  for (const name of new Set(query.keys())) {
    if ((FRAME as readonly string[]).includes(name)) continue;
    const parameter = PARAMETERS.get(name);
    if (parameter === undefined) {
      const expected = [...PARAMETERS.keys(), ...FRAME].join(", ");
      throw new BadParameter(`there is no parameter ${quote(name)}, expected one of ${expected}`);
    }
    conditions.push(readCondition(name, parameter, query.getAll(name)));
  }
  const fromMs = readFrame(query, "from", EXPECTED_TIME, (text) => parseTime(text, nowMs), null);
  const toMs = readFrame(query, "to", EXPECTED_TIME, (text) => parseTime(text, nowMs), null);
  if (fromMs !== null && toMs !== null && fromMs >= toMs)
    throw new BadParameter(
      `from: found ${quote(query.get("from"))}, expected a time before \`to\`, ${quote(query.get("to"))}`,
    );
  return {
    conditions,
    fromMs,
    toMs,
    limit: readFrame(query, "limit", `a whole number from 1 to ${MAX_LIMIT}`, parseLimit, DEFAULT_LIMIT),
    after: readFrame(query, "cursor", "the `next` of the page before", parseCursor, null),
  };
}

function readCondition(name: string, { expected, parse }: Parameter, texts: readonly string[]): Condition {
  const isFit = (text: string) => text !== "" && text.length <= MAX_VALUE_LENGTH;
  const condition = texts.every(isFit) ? parse(texts) : null;
  if (condition !== null) return condition;
  const wrong = texts.find((text) => !isFit(text) || parse([text]) === null);
  throw new BadParameter(`${name}: found ${quote(wrong)}, expected ${expected}`);
}

function readFrame<Value, Default>(
  query: URLSearchParams,
  name: Frame,
  expected: string,
  parse: (text: string) => Value | null,
  otherwise: Default,
): Value | Default {
  const texts = query.getAll(name);
  if (texts.length === 0) return otherwise;
  if (texts.length > 1) throw new BadParameter(`${name}: found it ${texts.length} times, expected it once`);
  const value = parse(texts[0] as string);
  if (value === null) throw new BadParameter(`${name}: found ${quote(texts[0])}, expected ${expected}`);
  return value;
}

// === parameters ===

function text(...columns: TextColumn[]): Parameter {
  return {
    expected: `text of 1 to ${MAX_VALUE_LENGTH} characters, with * for any part of it, or ${NULL}`,
    parse: (texts) => ({ kind: "is", columns, values: texts.map((each) => (each === NULL ? null : each)) }),
  };
}

/** Of a closed set, so that a value that can never match is told. */
function choice(column: TextColumn, choices: readonly string[]): Parameter {
  return {
    expected: `one of ${choices.join(", ")}`,
    parse: (texts) =>
      texts.every((each) => choices.includes(each)) ? { kind: "is", columns: [column], values: texts } : null,
  };
}

function number(column: NumberColumn, more = ""): Parameter {
  return {
    expected: `a whole number, a range such as 500..599, 100.. or ..99,${more} or ${NULL}`,
    parse: (texts) => {
      const ranges = texts.map((each) => (each === NULL ? null : parseRange(each)));
      return ranges.includes(undefined) ? null : { kind: "within", column, ranges: ranges as (Range | null)[] };
    },
  };
}

const edge: Parameter = {
  expected: "two services such as web->reviews, with * for any part of them",
  parse: (texts) => {
    const edges = texts.map(parseEdge);
    return edges.includes(null) ? null : { kind: "edge", edges: edges as Edge[] };
  },
};

const contained: Parameter = {
  expected: `text of 1 to ${MAX_VALUE_LENGTH} characters`,
  parse: (texts) => ({ kind: "contains", texts }),
};

/** All that records can be searched by, besides time. */
export const PARAMETERS: ReadonlyMap<string, Parameter> = new Map([
  ["service", text("source", "destination")],
  ["source", text("source")],
  ["destination", text("destination")],
  ["edge", edge],
  ["namespace", text("namespace")],
  ["endpoint", text("endpoint")],
  ["proxy", text("proxy")],
  ["role", choice("role", ROLES)],
  ["detectPoint", choice("detectPoint", DETECT_POINTS)],
  ["protocol", choice("protocol", PROTOCOLS)],
  ["method", text("method")],
  ["path", text("path")],
  ["code", number("code", " a class such as 5xx,")],
  ["grpcStatus", number("grpcStatus")],
  ["flag", text("flag")],
  ["latencyMs", number("latencyMs")],
  ["requestBytes", number("requestBytes")],
  ["responseBytes", number("responseBytes")],
  ["reason", choice("reason", LOG_REASONS)],
  ["requestId", text("requestId")],
  ["traceId", text("traceId")],
  ["tag", text("tag")],
  ["text", contained],
]);

// === values ===

/** `503`, `5xx`, `500..599`, `100..`, `..99`; undefined for any other text. */
function parseRange(range: string): Range | undefined {
  const [, digit] = /^([1-9])xx$/.exec(range) ?? [];
  if (digit !== undefined) return { least: Number(digit) * 100, most: Number(digit) * 100 + 99 };
  const [, exact, low, high] = /^(?:(\d{1,15})|(\d{0,15})\.\.(\d{0,15}))$/.exec(range) ?? [];
  if (exact !== undefined) return { least: Number(exact), most: Number(exact) };
  if (low === undefined || high === undefined || (low === "" && high === "")) return undefined;
  const [least, most] = [Number(low), high === "" ? Number.MAX_SAFE_INTEGER : Number(high)];
  return least <= most ? { least, most } : undefined;
}

function parseEdge(edgeText: string): Edge | null {
  const [source, destination, more] = edgeText.split("->").map((each) => each.trim());
  return source && destination && more === undefined ? { source, destination } : null;
}

const EXPECTED_TIME = "a time such as 2026-01-31T12:00:00Z, Unix milliseconds, or how long ago, such as 15m, 2h or 1d";

function parseTime(time: string, nowMs: number): number | null {
  const [, digits, unit] = /^(\d{1,6})([smhd])$/.exec(time) ?? [];
  if (unit !== undefined) return nowMs - Number(digits) * (UNITS_MS[unit] as number);
  if (/^\d{1,15}$/.test(time)) return Number(time);
  const isTime = /^\d{4}-\d\d-\d\d(?:T\d\d:\d\d(?::\d\d(?:\.\d{1,9})?)?(?:Z|[+-]\d\d:\d\d))?$/.test(time);
  const milliseconds = isTime ? Date.parse(time) : Number.NaN;
  return Number.isNaN(milliseconds) ? null : milliseconds;
}

function parseLimit(limit: string): number | null {
  const value = /^\d{1,4}$/.test(limit) ? Number(limit) : 0;
  return value >= 1 && value <= MAX_LIMIT ? value : null;
}

/** `1767225600000-42`: a record's time and number. */
function parseCursor(cursor: string): Cursor | null {
  const [, time, id] = /^(-?\d{1,16})-(\d{1,18})$/.exec(cursor) ?? [];
  const isCursor = time !== undefined && id !== undefined && Math.abs(Number(time)) <= MAX_TIME_MS;
  return isCursor ? { timeMs: Number(time), id: BigInt(id) } : null;
}

/** The text of a cursor, as `cursor` takes it. */
export function formatCursor({ timeMs, id }: Cursor): string {
  return `${timeMs}-${id}`;
}
