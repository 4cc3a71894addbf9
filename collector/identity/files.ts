// What files hold: JSON, or YAML of several documents, each an object or a List of objects -> Objects. The only reader of them.
//
// A List in YAML is read item by item, and others get their turn in between: the library takes a second for some MiB.

import { setImmediate } from "node:timers/promises";
import { parseDocument } from "yaml";
import { CollectorError } from "../error.ts";
import { addObject, type Objects } from "./objects.ts";

/** Longest time without a break. */
const MAX_RUN_MS = 20;

/** A List that a request to the API itself gives is a `PodList`, and its items have no kind. */
const LIST = /^(\w*)List$/;

interface Piece {
  /** Line of the file, from 1, where the text begins. */
  readonly line: number;
  readonly text: string;
}

/**
 * Adds the objects of a file's text; resolves with the number of objects of other kinds. Rejects with CollectorError
 * `message_malformed`, the line in front where it is known; then only a part was added.
 */
export async function readObjects(text: string, objects: Objects): Promise<number> {
  const reader = new Reader(objects);
  if (text.trim() === "") throw malformed("empty: it is being written, or was cut off");
  if (/^\s*\{/.test(text)) {
    await reader.add(parseJson(text));
  } else {
    for (const piece of splitDocuments(text)) await readDocument(piece, reader);
  }
  return reader.skipped;
}

class Reader {
  skipped = 0;
  private runsSince = performance.now();

  constructor(private readonly objects: Objects) {}

  /** An object, or a List. */
  async add(value: unknown): Promise<void> {
    const list = listOf(value);
    if (list === null) {
      await this.addOne(value);
      return;
    }
    for (const item of list.items) await this.addOne(withKind(item, list));
  }

  async addOne(value: unknown): Promise<void> {
    if (!addObject(this.objects, value)) this.skipped++;
    if (performance.now() - this.runsSince < MAX_RUN_MS) return;
    await setImmediate();
    this.runsSince = performance.now();
  }
}

interface List {
  /** "" where the items tell. */
  readonly kind: string;
  readonly apiVersion: unknown;
  readonly items: readonly unknown[];
}

function listOf(value: unknown): List | null {
  if (!isMapping(value) || typeof value["kind"] !== "string") return null;
  const [, kind] = LIST.exec(value["kind"]) ?? [];
  if (kind === undefined) return null;
  const items = value["items"] ?? [];
  if (!Array.isArray(items)) throw malformed("items: expected a list");
  return { kind, apiVersion: value["apiVersion"], items };
}

function withKind(item: unknown, { kind, apiVersion }: List): unknown {
  return kind === "" || !isMapping(item) || item["kind"] !== undefined ? item : { ...item, kind, apiVersion };
}

function isMapping(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error: unknown) {
    throw malformed(error instanceof Error ? error.message : String(error));
  }
}

function* splitDocuments(text: string): Generator<Piece> {
  const separator = /^---(?:[ \t].*)?\r?$/gm;
  let start = 0;
  let line = 1;
  for (const match of text.matchAll(separator)) {
    yield { line, text: text.substring(start, match.index) };
    line += countLines(text, start, match.index);
    start = match.index + match[0].length;
  }
  yield { line, text: text.substring(start) };
}

function countLines(text: string, start: number, stop: number): number {
  let lines = 0;
  for (let at = text.indexOf("\n", start); at >= 0 && at < stop; at = text.indexOf("\n", at + 1)) lines++;
  return lines;
}

async function readDocument(piece: Piece, reader: Reader): Promise<void> {
  const { rest, items } = splitItems(piece);
  const value = parseYaml(rest);
  if (value === null && items.length === 0) return; // nothing but comments
  if (items.length === 0) {
    await reader.add(value);
    return;
  }
  const list = listOf(value);
  // kubectl writes `kind: List` behind the items: without it, the file is cut off.
  if (list === null) throw malformed(`line ${piece.line}: items without kind: List: is it cut off?`);
  for (const item of items) {
    for (const object of parseYaml(item) as unknown[]) await reader.addOne(withKind(object, list));
  }
}

/**
 * A List's items, each a list of one, and the document without them. They are what begins with `- ` at the margin below `items:`, as
 * kubectl writes them: nothing inside an item can stand there. Of other documents all is `rest`.
 */
function splitItems(piece: Piece): { rest: Piece; items: Piece[] } {
  const lines = piece.text.split("\n");
  const first = lines.findIndex((line) => line.trimEnd() === "items:") + 1;
  const starts: number[] = [];
  let end = first;
  while (first > 0 && end < lines.length && /^(- | |\r?$)/.test(lines[end] as string)) {
    if (lines[end]?.startsWith("- ")) starts.push(end);
    end++;
  }
  if (starts.length === 0) return { rest: piece, items: [] };
  const rest = { line: piece.line, text: [...lines.slice(0, first - 1), ...lines.slice(end)].join("\n") };
  const items = starts.map((start, i) => ({
    line: piece.line + start,
    text: lines.slice(start, starts[i + 1] ?? end).join("\n"),
  }));
  return { rest, items };
}

function parseYaml({ line, text }: Piece): unknown {
  try {
    const document = parseDocument(text, { prettyErrors: false });
    const [error] = document.errors;
    if (error !== undefined) throw malformed(`line ${line + countLines(text, 0, error.pos[0])}: ${error.message}`);
    return document.toJS({ maxAliasCount: 0 }); // kubectl writes none, and a few lines of them can make gigabytes
  } catch (error: unknown) {
    if (error instanceof CollectorError) throw error;
    throw malformed(`line ${line}: ${error instanceof Error ? error.message : String(error)}`);
  }
}

function malformed(message: string): CollectorError {
  return new CollectorError("message_malformed", message);
}
