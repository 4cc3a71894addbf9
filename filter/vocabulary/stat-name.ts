// Shared with the collector: keep portable (filter/vocabulary/README.md).
// How labels travel inside an Envoy stat name, as Istio's: `reporter=.=source;.;source_app=.=web;.;istio_requests_total`.
// Envoy's `stats_tags` cut each `name=.=value;.;` out again and what is left is the metric's name.

export const VALUE_SEPARATOR = "=.=";
export const FIELD_SEPARATOR = ";.;";

/** No label value is longer, in bytes of UTF-8; what is longer is cut. One byte holds the length (observation.ts). */
export const MAX_VALUE_BYTES = 255;

/** `component.proxy.tag.1.26.0;.istio_build`: Istio's own form for this one metric, which its bootstrap extracts. */
export const BUILD_PREFIX = "component.proxy.tag.";
export const BUILD_SUFFIX = ";.";

const DOT = 0x2e;
const SEMICOLON = 0x3b;
const EQUALS = 0x3d;
const DELETE = 0x7f;

/** `reporter=.=source;.;` for ("reporter", "source"). The value must have passed `cleanValue`. */
export function encodeTag(name: string, value: string): string {
  return name + VALUE_SEPARATOR + value + FIELD_SEPARATOR;
}

/**
 * The `stats_tags` regex that cuts the label out of a stat name; group 1 is removed, group 2 is the value. `\b`, so that `app` is not
 * found inside `source_app`; Istio's own regexes lack it.
 */
export function tagRegex(name: string): string {
  return "\\b(" + name + "=\\.=(.*?);\\.;)";
}

/**
 * The form in which a value survives Envoy's stat names unchanged: `a;.;b` -> `a;_;b`, "example.com." -> "example.com".
 * Separators inside the value would end it early, Envoy drops trailing dots of a name, `.` in its regexes matches no line break,
 * so: the dot of a separator and control characters read `_`, trailing dots go, and the length is bounded by whole characters.
 * Idempotent. Expects well-formed text (no lone surrogates).
 */
export function cleanValue(value: string): string {
  let clean = "";
  let copied = 0; // value[0, copied) is already in clean
  let end = 0; // code units that fit
  let bytes = 0;
  while (end < value.length) {
    const code = value.charCodeAt(end);
    const isPair = code >= 0xd800 && code < 0xdc00;
    bytes += isPair ? 4 : code < 0x80 ? 1 : code < 0x800 ? 2 : 3;
    if (bytes > MAX_VALUE_BYTES) break;
    let isUnsafe = code < 0x20 || code === DELETE;
    if (code === DOT && end > 0 && end + 1 < value.length) {
      const before = value.charCodeAt(end - 1);
      const isSeparator = before === SEMICOLON || before === EQUALS;
      isUnsafe = isSeparator && value.charCodeAt(end + 1) === before;
    }
    if (isUnsafe) {
      clean += value.substring(copied, end) + "_";
      copied = end + 1;
    }
    end += isPair ? 2 : 1;
  }
  while (end > copied && value.charCodeAt(end - 1) === DOT) end--;
  if (copied === 0 && end === value.length) return value;
  return clean + value.substring(copied, end);
}
