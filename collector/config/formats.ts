// How values are written that YAML has no type for: durations, sizes, addresses, URLs, patterns.

import { isIP } from "node:net";
import { isPattern } from "../analysis/pattern.ts";
import { codePattern } from "../analysis/policy.ts";
import { isServerUrl } from "../client/settings.ts";
import type { Address } from "./config.ts";

const UNITS_MS: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 };
const UNITS_BYTES: Readonly<Record<string, number>> = { B: 1, KiB: 2 ** 10, MiB: 2 ** 20, GiB: 2 ** 30 };

/** Milliseconds of `500ms`, `5s`, `10m`, `1h`; null for any other text. */
export function parseDuration(text: string): number | null {
  const [, digits, unit] = /^(\d{1,6})(ms|s|m|h)$/.exec(text) ?? [];
  return unit === undefined ? null : Number(digits) * (UNITS_MS[unit] as number);
}

/** Bytes of `512KiB`, `64MiB`; null for any other text. */
export function parseSize(text: string): number | null {
  const [, digits, unit] = /^(\d{1,6})(B|KiB|MiB|GiB)$/.exec(text) ?? [];
  return unit === undefined ? null : Number(digits) * (UNITS_BYTES[unit] as number);
}

/** Host and port of `127.0.0.1:80`, `[::1]:80`, `localhost:80`; null for any other text. */
export function parseAddress(text: string): Address | null {
  const [, six, name, digits] = /^(?:\[([0-9a-fA-F:.]+)\]|([a-zA-Z0-9.-]+)):(\d{1,5})$/.exec(text) ?? [];
  const port = Number(digits);
  if (digits === undefined || port > 65_535 || (six !== undefined && isIP(six) !== 6)) return null;
  return { host: six ?? name ?? "", port };
}

/** The text of an address: `127.0.0.1:80`, `[::1]:80`. */
export function formatAddress({ host, port }: Address): string {
  return host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;
}

/** The base URL of `127.0.0.1:15000` or `https://admin.example/envoy/`; null for any other text. */
export function parseTarget(text: string): string | null {
  const isUrl = /^https?:\/\//.test(text);
  if (!isUrl && (parseAddress(text)?.port ?? 0) === 0) return null;
  const url = isUrl ? text : `http://${text}`;
  if (!URL.canParse(url)) return null;
  const { href, hostname, username, password, search, hash } = new URL(url);
  if (username !== "" || password !== "" || search !== "" || hash !== "") return null;
  // A URL's host may be written as one number, and then is another address than one thinks: http://9901 is 0.0.38.173.
  if (isIP(hostname) === 4 && !url.includes(`//${hostname}`)) return null;
  return href.replace(/\/+$/, "");
}

/** Whether it is an http or https URL without user and fragment. */
function isSourceUrl(text: string): boolean {
  if (!/^https?:\/\//.test(text) || !URL.canParse(text)) return false;
  const { username, password, hash } = new URL(text);
  return username === "" && password === "" && hash === "";
}

function isBetween(low: number, value: number | null, high: number): boolean {
  return value !== null && low <= value && value <= high;
}

export function isLoopback(host: string): boolean {
  return host === "localhost" || host === "::1" || (isIP(host) === 4 && host.startsWith("127."));
}

export const MIN_INTERVAL_MS = 10;
/** A week. Timers of Node.js end at 2^31 ms: a longer one fires at once. */
const MAX_DURATION_MS = 168 * 3_600_000;

/** What a log store needs to work: in so many files as it is cut into, and for what it writes at once. */
const MIN_STORE_BYTES = 16 * 2 ** 20;
const MIN_STORE_MEMORY_BYTES = 32 * 2 ** 20;
/** Prometheus' own five minutes, after which it takes a series for gone, or less. */
const MIN_EXPIRY_MS = 60_000;
/** What a queue is cut into has room for a request. */
const MIN_QUEUE_BYTES = 16 * 2 ** 20;
const MIN_AGE_MS = 60_000;
const MAX_AGE_MS = 8760 * 3_600_000;

/** The formats of text values: what makes a text one of them. */
export const FORMATS: Readonly<Record<string, (text: string) => boolean>> = {
  duration: (text) => isBetween(0, parseDuration(text), MAX_DURATION_MS),
  interval: (text) => isBetween(MIN_INTERVAL_MS, parseDuration(text), MAX_DURATION_MS),
  expiry: (text) => parseDuration(text) === 0 || isBetween(MIN_EXPIRY_MS, parseDuration(text), MAX_DURATION_MS),
  lateness: (text) => isBetween(15_000, parseDuration(text), 3_600_000),
  retirement: (text) => isBetween(120_000, parseDuration(text), MAX_DURATION_MS),
  threshold: (text) => isBetween(1, parseDuration(text), MAX_DURATION_MS),
  size: (text) => (parseSize(text) ?? 0) > 0,
  store: (text) => (parseSize(text) ?? 0) >= MIN_STORE_BYTES,
  age: (text) => (parseDuration(text) ?? 0) >= MIN_AGE_MS && isBetween(0, parseDuration(text), MAX_AGE_MS),
  memory: (text) => (parseSize(text) ?? 0) >= MIN_STORE_MEMORY_BYTES,
  address: (text) => parseAddress(text) !== null,
  target: (text) => parseTarget(text) !== null,
  source: isSourceUrl,
  pattern: isPattern,
  codes: (text) => isPattern(codePattern(text)),
  receiver: isServerUrl,
  queue: (text) => (parseSize(text) ?? 0) >= MIN_QUEUE_BYTES,
  domain: (text) => /^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$/.test(text),
};
