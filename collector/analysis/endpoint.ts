// The endpoint of a request: its path without what differs from call to call. `/reviews/42?full=1` -> `/reviews/{id}`.
//
// Text in, text out, for whatever a caller sends as its path: the result is bounded, and a template of a template is itself.

/** A segment that looks like an identifier. */
const ID = "{id}";
/** Stands last for the segments of a path that is too deep or too long. */
const MORE = "{more}";

const MAX_SEGMENTS = 12;
const MAX_LENGTH = 128;
/** No name in a path is longer; tokens are. */
const MAX_NAME_LENGTH = 64;

/** From this length on a name with several groups of digits is a token. */
const MIN_TOKEN_LENGTH = 20;
/** The same of a name that mixes cases: `dQw4w9WgXcQ`. */
const MIN_MIXED_LENGTH = 10;
/** As many digits are in no name: `order-12345`, `20260131T1200`. */
const MIN_ID_DIGITS = 5;

const QUERY = /[?#]/;
/** `12`, `-12`, `2026-01-31`, `1,2,3`; but not `1.0`, a version. */
const NUMBER = /^[+-]?\d+(?:[-_,:]\d+)*$/;
const UUID = /^\{?[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\}?$/i;
const HEX = /^(?:0x)?[0-9a-f]{8,}$/i;
const PERCENT = /%[0-9a-f]{2}/gi;
const DIGITS = /\d+/g;
/** `12` and `.png` of `12.png`. */
const FILE = /^(.+)(\.[a-z]{1,5})$/i;

/** The template of a path; `/` of an empty one. At most 128 characters long. */
export function pathTemplate(path: string): string {
  const end = path.search(QUERY);
  const bare = end < 0 ? path : path.slice(0, end);
  if (bare === "") return "/";
  const segments = bare.split("/", MAX_SEGMENTS + 2); // a leading slash makes an empty one
  const isRooted = segments[0] === "";
  const most = MAX_SEGMENTS + (isRooted ? 1 : 0);
  const folded = segments.slice(0, most).map(foldSegment);
  if (segments.length > most) folded.push(MORE);
  return shorten(folded) || "/";
}

/** Segments joined, at most 128 characters: those at the end are taken off until the rest fits. */
export function shorten(segments: readonly string[]): string {
  let text = segments.join("/");
  for (let kept = segments.length - 1; text.length > MAX_LENGTH; kept--) {
    text = [...segments.slice(0, kept), MORE].join("/");
  }
  return text;
}

function foldSegment(segment: string): string {
  const semicolon = segment.indexOf(";"); // parameters of the segment: `;jsessionid=...`
  const name = semicolon < 0 ? segment : segment.slice(0, semicolon);
  if (name.length > MAX_NAME_LENGTH) return ID;
  const [, stem, extension] = FILE.exec(name) ?? [];
  if (stem !== undefined && isId(stem)) return ID + extension;
  return isId(name) ? ID : name;
}

function isId(name: string): boolean {
  if (NUMBER.test(name) || UUID.test(name)) return true;
  const text = name.replace(PERCENT, "~"); // the digits of an escape are none of the name's
  const groups = text.match(DIGITS) ?? [];
  if (groups.length === 0) return false;
  if (HEX.test(text) || groups.join("").length >= MIN_ID_DIGITS) return true;
  if (groups.length < 2) return false;
  const isMixed = /[a-z]/.test(text) && /[A-Z]/.test(text);
  return text.length >= (isMixed ? MIN_MIXED_LENGTH : MIN_TOKEN_LENGTH);
}
