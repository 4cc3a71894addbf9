// The tokens of a CEL source, as far as they matter for finding names outside of literals.
// Lexis: https://github.com/google/cel-spec/blob/master/doc/langdef.md#syntax

export enum TokenKind {
  /** An identifier or keyword. */
  Name,
  /** A string or bytes literal with its quotes and prefix; one that does not end reaches to the end of the source. */
  Text,
  /** Begins with a digit: `12`, `0x1f`, the `1` and the `5e3` of `1.5e3`. */
  Number,
  /** One code unit of anything else: the `&&` of `a && b` is two. */
  Symbol,
}

const TAB = 0x09;
const LINE_FEED = 0x0a;
const FORM_FEED = 0x0c;
const RETURN = 0x0d;
const SPACE = 0x20;
const DOUBLE_QUOTE = 0x22;
const SINGLE_QUOTE = 0x27;
const SLASH = 0x2f;
const UNDERSCORE = 0x5f;
const BACKSLASH = 0x5c;
const BACKTICK = 0x60;

/** All tokens of a source. Total: any text has some. White space and comments are none. */
export class Tokens {
  private readonly kinds: TokenKind[] = [];
  private readonly starts: i32[] = [];
  private readonly ends: i32[] = [];

  constructor(readonly source: string) {
    let at = skipSpace(source, 0);
    while (at < source.length) {
      const kind = kindAt(source, at);
      const end = endOf(source, at, kind);
      this.kinds.push(kind);
      this.starts.push(at);
      this.ends.push(end);
      at = skipSpace(source, end);
    }
  }

  get count(): i32 {
    return this.kinds.length;
  }

  text(index: i32): string {
    return this.source.substring(this.starts[index], this.ends[index]);
  }

  /** The source from one token to another, both included. */
  span(first: i32, last: i32): string {
    return this.source.substring(this.starts[first], this.ends[last]);
  }

  /** Whether white space or a comment stands before the token. */
  isApart(index: i32): bool {
    return index > 0 && this.starts[index] > this.ends[index - 1];
  }

  /** False past the end, as the next two. */
  isKind(index: i32, kind: TokenKind): bool {
    return index >= 0 && index < this.count && this.kinds[index] === kind;
  }

  isSymbol(index: i32, symbol: string): bool {
    return this.isKind(index, TokenKind.Symbol) && this.text(index) === symbol;
  }

  isName(index: i32, name: string): bool {
    return this.isKind(index, TokenKind.Name) && this.text(index) === name;
  }
}

function skipSpace(source: string, from: i32): i32 {
  let at = from;
  while (at < source.length) {
    const code = source.charCodeAt(at);
    if (code === SLASH && at + 1 < source.length && source.charCodeAt(at + 1) === SLASH) {
      while (at < source.length && source.charCodeAt(at) !== LINE_FEED) at++;
    } else if (code === SPACE || code === TAB || code === LINE_FEED || code === FORM_FEED || code === RETURN) {
      at++;
    } else {
      break;
    }
  }
  return at;
}

function kindAt(source: string, at: i32): TokenKind {
  const code = source.charCodeAt(at);
  if (isQuote(code)) return TokenKind.Text;
  if (isDigit(code)) return TokenKind.Number;
  if (!isWord(code)) return TokenKind.Symbol;
  const end = endOfWord(source, at);
  const isPrefix = end < source.length && source.charCodeAt(end) !== BACKTICK && isQuote(source.charCodeAt(end));
  return isPrefix && isLiteralPrefix(source.substring(at, end)) ? TokenKind.Text : TokenKind.Name;
}

function endOf(source: string, at: i32, kind: TokenKind): i32 {
  if (kind === TokenKind.Symbol) return at + 1;
  if (kind === TokenKind.Text) return endOfLiteral(source, at);
  return endOfWord(source, at);
}

/** Just behind a literal's closing quote; a single quote's literal does not go over a line's end, a triple's does. */
function endOfLiteral(source: string, start: i32): i32 {
  const open = endOfWord(source, start);
  const prefix = source.substring(start, open);
  const quote = source.charCodeAt(open);
  const isRaw = quote === BACKTICK || prefix.includes("r") || prefix.includes("R");
  const isTriple = quote !== BACKTICK && isTripleQuote(source, open, quote);
  let at = open + (isTriple ? 3 : 1);
  while (at < source.length) {
    const code = source.charCodeAt(at);
    if (code === quote && (!isTriple || isTripleQuote(source, at, quote))) return at + (isTriple ? 3 : 1);
    if (!isTriple && (code === LINE_FEED || code === RETURN)) break;
    at += code === BACKSLASH && !isRaw ? 2 : 1;
  }
  return source.length;
}

function isTripleQuote(source: string, at: i32, quote: i32): bool {
  return at + 2 < source.length && source.charCodeAt(at + 1) === quote && source.charCodeAt(at + 2) === quote;
}

function endOfWord(source: string, from: i32): i32 {
  let at = from;
  while (at < source.length && isWord(source.charCodeAt(at))) at++;
  return at;
}

/** `r`, `b`, `rb`, `br`, in either case. */
function isLiteralPrefix(word: string): bool {
  const lower = word.toLowerCase();
  return lower === "r" || lower === "b" || lower === "rb" || lower === "br";
}

function isQuote(code: i32): bool {
  return code === SINGLE_QUOTE || code === DOUBLE_QUOTE || code === BACKTICK;
}

function isDigit(code: i32): bool {
  return code >= 0x30 && code <= 0x39;
}

function isWord(code: i32): bool {
  const letter = code | 0x20;
  return isDigit(code) || (letter >= 0x61 && letter <= 0x7a && code < 0x80) || code === UNDERSCORE;
}
