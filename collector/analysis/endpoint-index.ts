// The indicator of an endpoint, by the bytes of a path. Paths that differ in numbers alone are looked up as one.

import type { Indicator } from "../indicators/indicator.ts";
import { BytesCache } from "../proto/bytes-cache.ts";

/** Together at most 16 MiB, with the paths. */
const MAX_PATHS = 32_768;
const MAX_PATH_BYTES = 384;

const HEAD_BYTES = 5;
/** Envoy's enum has fewer. */
const MAX_METHOD = 255;
const SLASH = 0x2f;
const QUERY = 0x3f;
const FRAGMENT = 0x23;
const ZERO = 0x30;
const NINE = 0x39;
/** Stands for a segment of digits; no path has it, since none of its bytes may be a control character. */
const NUMBER = 0x01;
const FIRST_VISIBLE = 0x20;

export class EndpointIndex {
  private readonly indicators = new BytesCache<Indicator>(MAX_PATHS, HEAD_BYTES + MAX_PATH_BYTES);
  /** `foldsNumbers`: whether segments of digits never make a difference. */
  constructor(private readonly foldsNumbers: boolean) {}

  private readonly key = Buffer.alloc(HEAD_BYTES + MAX_PATH_BYTES + 1);

  clear(): void {
    this.indicators.clear();
  }

  /**
   * Of the path at bytes[start, stop), asked with `method` of the service that has that number; `make` is asked when it is not held.
   */
  find(service: number, method: number, bytes: Buffer, start: number, stop: number, make: () => Indicator): Indicator {
    const end = this.writeKey(service, method, bytes, start, stop);
    if (end < 0) return make();
    const known = this.indicators.get(this.key, 0, end);
    if (known !== undefined && !known.isRetired) return known;
    const made = make();
    this.indicators.set(this.key, 0, end, made);
    return made;
  }

  /** Where the key ends; -1 for a path that has none. */
  private writeKey(service: number, method: number, bytes: Buffer, start: number, stop: number): number {
    const { key } = this;
    key.writeUInt32LE(service, 0);
    key[4] = method >= 0 && method <= MAX_METHOD ? method : 0; // beyond it methods have one name, as 0 has
    let at = HEAD_BYTES;
    const { foldsNumbers } = this;
    let segment = foldsNumbers ? HEAD_BYTES : -1; // where the segment begins, if it holds digits alone so far
    for (let from = start; from < stop; from++) {
      const byte = bytes[from] as number;
      if (byte === QUERY || byte === FRAGMENT) break;
      if (byte < FIRST_VISIBLE || at >= HEAD_BYTES + MAX_PATH_BYTES) return -1;
      if (byte === SLASH) {
        at = foldNumber(key, segment, at);
        segment = foldsNumbers ? at + 1 : -1;
      } else if (byte < ZERO || byte > NINE) {
        segment = -1;
      }
      key[at++] = byte;
    }
    return foldNumber(key, segment, at);
  }
}

/** The end of key[segment, at) once digits stand as one byte. */
function foldNumber(key: Buffer, segment: number, at: number): number {
  if (segment < 0 || segment >= at) return at;
  key[segment] = NUMBER;
  return segment + 1;
}
