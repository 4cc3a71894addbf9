// The form in which an expression is compiled: its result as text, so that all kinds of results are read alike.

import { UNKNOWN } from "../vocabulary/values.ts";
import { TokenKind, Tokens } from "./tokens.ts";

/** Each guard repeats the path before it: with more, the whole would be mostly repetition. */
const MAX_GUARDS = 16;

/**
 * `string(EXPRESSION)`. One that is a path only is guarded, level by level, so that an attribute that is absent reads `unknown`
 * and does not fail: `request.headers['x']` -> `has(request.headers) && 'x' in request.headers ? string(...) : 'unknown'`.
 * Expects what translate() returned: a comment would swallow the parenthesis.
 */
export function textForm(source: string): string {
  const tokens = new Tokens(source);
  const last = tokens.count - 1;
  const isWrapped = tokens.isName(0, "string") && tokens.isSymbol(1, "(") && tokens.isSymbol(last, ")");
  const first = isWrapped ? 2 : 0;
  const end = isWrapped ? last : tokens.count;
  if (!isPath(tokens, first, end)) return "string(" + source + ")";
  const path = tokens.span(first, end - 1);
  const guards = guardsOf(tokens, first, end);
  if (guards.length === 0 || guards.length > MAX_GUARDS) return "string(" + path + ")";
  return guards.join(" && ") + " ? string(" + path + ") : '" + UNKNOWN + "'";
}

/** A name and at least one select: `.name`, `['text']` or `[0]`. */
function isPath(tokens: Tokens, first: i32, end: i32): bool {
  if (!tokens.isKind(first, TokenKind.Name)) return false;
  let at = first + 1;
  while (at < end) {
    const length = selectLength(tokens, at);
    if (length === 0) return false;
    at += length;
  }
  return at === end && end > first + 1;
}

/** One guard for each select, up to the first index by number, for which CEL has no question. */
function guardsOf(tokens: Tokens, first: i32, end: i32): string[] {
  const guards: string[] = [];
  let at = first + 1;
  while (at < end && guards.length <= MAX_GUARDS && !tokens.isKind(at + 1, TokenKind.Number)) {
    const length = selectLength(tokens, at);
    const before = tokens.span(first, at - 1);
    if (length === 2) guards.push("has(" + tokens.span(first, at + 1) + ")");
    else guards.push(tokens.text(at + 1) + " in " + before);
    at += length;
  }
  return guards;
}

function selectLength(tokens: Tokens, at: i32): i32 {
  if (tokens.isSymbol(at, ".") && tokens.isKind(at + 1, TokenKind.Name)) return 2;
  const isIndex = tokens.isKind(at + 1, TokenKind.Text) || tokens.isKind(at + 1, TokenKind.Number);
  return tokens.isSymbol(at, "[") && isIndex && tokens.isSymbol(at + 2, "]") ? 3 : 0;
}
