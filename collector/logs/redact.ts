// What must not be kept: values of headers that prove who somebody is, and of query parameters, which may be anything.

import { matches } from "../analysis/filter.ts";

export const REDACTED = "[redacted]";

/** Names of headers, tags and metadata, `*` for any part of one. */
export const DEFAULT_REDACTED_HEADERS: readonly string[] = [
  "*authorization*",
  "*cookie*",
  "*token*",
  "*api-key*",
  "*apikey*",
  "*secret*",
  "*password*",
  "*credential*",
  "*session*",
  "*signature*",
  "*jwt*",
];

export interface RedactSettings {
  readonly headers: readonly string[];
  /** Whether values in queries are taken out. */
  readonly query: boolean;
}

/** Names are few, and the same again and again. */
const MAX_KNOWN_NAMES = 1000;
/** A path or a URL: anything else with a question mark in it is a sentence. */
const URL_OR_PATH = /^(?:[a-z][a-z0-9+.-]*:\/\/|\/)/i;
/** Headers that are one, however they begin: a Location may be `login?token=...`. */
const URL_HEADERS: ReadonlySet<string> = new Set([
  ":path",
  "content-location",
  "location",
  "referer",
  "x-envoy-original-path",
  "x-forwarded-uri",
  "x-original-uri",
  "x-original-url",
  "x-rewrite-url",
]);
/** User and password in front of a host. */
const USER_INFO = /^([a-z][a-z0-9+.-]*:\/\/)[^/?#]*@/i;

export class Redaction {
  private readonly patterns: readonly string[];
  private readonly isQueryCut: boolean;
  private readonly known = new Map<string, boolean>();

  constructor({ headers, query }: RedactSettings) {
    this.patterns = headers.map((name) => name.toLowerCase());
    this.isQueryCut = query;
  }

  /** The value of a header, a tag or a field of metadata, as it may be kept. */
  value(name: string, value: string): string {
    if (this.isSecret(name)) return REDACTED;
    return URL_OR_PATH.test(value) || URL_HEADERS.has(name.toLowerCase()) ? this.url(value) : value;
  }

  isSecret(name: string): boolean {
    const known = this.known.get(name);
    if (known !== undefined) return known;
    const lower = name.toLowerCase();
    const isSecret = this.patterns.some((pattern) => matches(lower, pattern));
    if (this.known.size >= MAX_KNOWN_NAMES) this.known.clear();
    this.known.set(name, isSecret);
    return isSecret;
  }

  /** A path or URL with the values of its query taken out: `/a?id=[redacted]`. */
  url(text: string): string {
    const open = text.replace(USER_INFO, `$1${REDACTED}@`);
    const at = open.search(/[?#]/);
    if (!this.isQueryCut || at < 0) return open;
    const isFragment = open[at] === "#"; // no client sends one, so it is somebody's mistake or worse
    const query = isFragment ? "" : (open.slice(at + 1).split("#", 1)[0] as string);
    return query === "" ? open.slice(0, at) : `${open.slice(0, at)}?${redactQuery(query)}`;
  }
}

/** What has no name is a value. */
function redactQuery(query: string): string {
  const parts = query.split("&").map((part) => {
    const end = part.indexOf("=");
    return end < 0 ? REDACTED : `${part.slice(0, end)}=${REDACTED}`;
  });
  return parts.join("&");
}
