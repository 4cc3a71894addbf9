// Path templates, and a tree of them that finds the one for a path.
//
//   /users/{name}/orders/*    {name}, *   one segment that is not empty
//   /files/{name}.json                    a segment of texts and parameters, each of one character or more
//   /static/**                            all that follows, nothing included; only as the last segment
//
// The words are those of Envoy's URI templates and of OpenAPI. Of several templates the most specific counts, segment by segment from
// the left: a text before texts with parameters, these (the longer text first) before a parameter, that before `**`.
// https://spec.openapis.org/oas/v3.1.1.html#paths-object
//
// Segments are compared as they read unescaped: `/caf%C3%A9` is `/café`, while `%2F` makes no new segment. A path's query, fragment and
// segment parameters (`;v=1`) do not count. A slash at its end only tells two templates apart that differ in nothing else.

import { quote } from "../error.ts";

/** A deeper path matches only what ends with `**`. */
const MAX_SEGMENTS = 64;
const MAX_LENGTH = 1000;

const REST = "**";
const PARAMETER = /\{[^{}]*\}/;
const WHOLE_PARAMETER = /^(?:\*|\{[^{}]*\})$/;

type Segment =
  /** A text. */
  | { readonly kind: "text"; readonly text: string }
  /** Texts around parameters: ["", ".json"] of `{name}.json`. */
  | { readonly kind: "mixed"; readonly texts: readonly string[] }
  | { readonly kind: "parameter" }
  | { readonly kind: "rest" };

export interface PathTemplate {
  /** As it was written. */
  readonly text: string;
  readonly segments: readonly Segment[];
}

export type ParsedTemplate =
  | { readonly ok: true; readonly template: PathTemplate }
  /** What is there instead of what was expected. */
  | { readonly ok: false; readonly found: string; readonly expected: string };

export function parsePathTemplate(text: string): ParsedTemplate {
  const refuse = (found: string, expected: string): ParsedTemplate => ({ ok: false, found, expected });
  if (text.length > MAX_LENGTH) return refuse(quote(text), `at most ${MAX_LENGTH} characters`);
  if (!text.startsWith("/")) return refuse(quote(text), 'a path that begins with "/"');
  const mark = /[?#;]/.exec(text)?.[0];
  if (mark !== undefined) return refuse(`${quote(mark)} in ${quote(text)}`, "a path alone");
  const parts = text.slice(1).split("/");
  if (parts.length > MAX_SEGMENTS) return refuse(`${parts.length} segments`, `at most ${MAX_SEGMENTS}`);
  for (const [index, part] of parts.entries()) {
    if (part === REST && index < parts.length - 1) return refuse(`"${REST}" in ${quote(text)}`, "it at the end alone");
    if (/[{}]/.test(part.replaceAll(new RegExp(PARAMETER, "g"), ""))) {
      return refuse(`${quote(part)} in ${quote(text)}`, 'each "{" closed by a "}" in the same segment');
    }
  }
  return { ok: true, template: { text, segments: parts.map(segmentOf) } };
}

function segmentOf(part: string): Segment {
  if (part === REST) return { kind: "rest" };
  if (WHOLE_PARAMETER.test(part)) return { kind: "parameter" };
  const texts = part.split(PARAMETER).map((text) => unescaped(text) ?? text);
  return texts.length === 1 ? { kind: "text", text: texts[0] as string } : { kind: "mixed", texts };
}

/** Null of what no unescaping can read. */
function unescaped(text: string): string | null {
  if (!text.includes("%")) return text;
  try {
    return decodeURIComponent(text);
  } catch (error: unknown) {
    if (error instanceof URIError) return null;
    throw error;
  }
}

/** Where templates end: what each method has there. */
class Leaf<T> {
  private readonly byMethod = new Map<string, T>();

  /** Method null: any that has no template of its own. Who comes first stays. */
  add(method: string | null, value: T): void {
    const key = method ?? "";
    if (!this.byMethod.has(key)) this.byMethod.set(key, value);
  }

  get(method: string): T | null {
    return this.byMethod.get(method) ?? this.byMethod.get("") ?? null;
  }
}

class Node<T> {
  readonly texts = new Map<string, Node<T>>();
  /** The most text first; else in an order that is always the same. */
  mixed: { readonly key: string; readonly texts: readonly string[]; readonly node: Node<T> }[] = [];
  parameter: Node<T> | null = null;
  rest: Leaf<T> | null = null;
  end: Leaf<T> | null = null;
}

export class PathTree<T> {
  private readonly root = new Node<T>();

  /** `method`: null for all. Of templates that match the same paths the first stays. */
  add({ segments }: PathTemplate, method: string | null, value: T): void {
    let node = this.root;
    for (const segment of segments) {
      if (segment.kind === "rest") {
        node.rest ??= new Leaf();
        node.rest.add(method, value);
        return;
      }
      node = childOf(node, segment);
    }
    node.end ??= new Leaf();
    node.end.add(method, value);
  }

  /** What was added with the most specific template for this path and method; null without any. Costs one step a segment, as a rule. */
  find(method: string, path: string): T | null {
    const segments = segmentsOf(path);
    return segments === null ? null : search(this.root, segments, 0, method);
  }
}

function childOf<T>(node: Node<T>, segment: Exclude<Segment, { kind: "rest" }>): Node<T> {
  if (segment.kind === "parameter") {
    node.parameter ??= new Node();
    return node.parameter;
  }
  if (segment.kind === "text") {
    const child = node.texts.get(segment.text) ?? new Node<T>();
    node.texts.set(segment.text, child);
    return child;
  }
  const key = segment.texts.join("\0");
  const known = node.mixed.find((each) => each.key === key);
  if (known !== undefined) return known.node;
  const child = new Node<T>();
  node.mixed = [...node.mixed, { key, texts: segment.texts, node: child }].sort(
    (a, b) => b.key.length - b.texts.length - (a.key.length - a.texts.length) || (a.key < b.key ? -1 : 1),
  );
  return child;
}

/** The segments to compare; null of what is no path from the root. Those beyond the deepest template are left out but for one. */
function segmentsOf(path: string): string[] | null {
  if (!path.startsWith("/")) return null;
  const end = path.search(/[?#]/);
  const bare = end < 0 ? path.slice(1) : path.slice(1, end);
  const segments = bare.split("/", MAX_SEGMENTS + 2);
  let isReadable = true; // of hostile escapes only the first is tried: an exception is dear
  for (const [index, segment] of segments.entries()) {
    const semicolon = segment.indexOf(";");
    const name = semicolon < 0 ? segment : segment.slice(0, semicolon);
    const text = isReadable ? unescaped(name) : null;
    if (text === null) isReadable = false;
    segments[index] = text ?? name;
  }
  return segments;
}

/** Depth first, so a tree is walked once at the very most, whatever the path. */
function search<T>(node: Node<T>, segments: readonly string[], at: number, method: string): T | null {
  const segment = segments[at];
  if (segment === undefined)
    return node.end?.get(method) ?? slashed(node)?.get(method) ?? node.rest?.get(method) ?? null;
  const text = node.texts.get(segment);
  const exact = text === undefined ? null : search(text, segments, at + 1, method);
  if (exact !== null) return exact;
  for (const { texts, node: child } of node.mixed) {
    const found = isMixed(segment, texts) ? search(child, segments, at + 1, method) : null;
    if (found !== null) return found;
  }
  if (node.parameter !== null && segment !== "") {
    const found = search(node.parameter, segments, at + 1, method);
    if (found !== null) return found;
  }
  const isLastSlash = segment === "" && at === segments.length - 1;
  return (isLastSlash ? node.end?.get(method) : null) ?? node.rest?.get(method) ?? null;
}

/** Where templates end that have a slash behind this node. */
function slashed<T>(node: Node<T>): Leaf<T> | null {
  return node.texts.get("")?.end ?? null;
}

/** Whether the texts stand in the segment in this order, the first and the last at its ends, with something between each two. */
function isMixed(segment: string, texts: readonly string[]): boolean {
  const first = texts[0] as string;
  const last = texts.at(-1) as string;
  const stop = segment.length - last.length;
  if (!segment.startsWith(first) || !segment.endsWith(last)) return false;
  let at = first.length;
  for (const text of texts.slice(1, -1)) {
    const found = segment.indexOf(text, at + 1); // the leftmost leaves the most for the others
    if (found < 0) return false;
    at = found + text.length;
  }
  return at + 1 <= stop;
}
