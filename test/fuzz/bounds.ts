// What a part of the collector holds: every Map, Set and array that is reachable from it, with the path that leads there.

import { BytesCache } from "../../collector/proto/bytes-cache.ts";
import { FingerprintCache } from "../../collector/proto/fingerprint-cache.ts";

/** No cache of the collector holds more. */
const MAX_ELEMENTS = 16_384;
/** Maps that only remember what can be made again: of BytesCache, Attribution, Peers, UnknownPeers; PerService, Naming, Calls, AlsDecoder. */
const CACHES = [
  "byHash",
  "labelKeys",
  "endpoints",
  "young",
  "old",
  "byService",
  "http",
  "grpc",
  "serviceNumbers",
  "senders",
];

type Parts = Readonly<Record<string, object>>;
type Collection = Map<unknown, unknown> | Set<unknown> | readonly unknown[] | FingerprintCache<unknown>;

export interface Held {
  /** `receiver.shared.decoder.attribution.labelKeys` */
  readonly path: string;
  readonly size: number;
  readonly bound: number;
}

interface Found extends Held {
  readonly collection: Collection;
}

/** The largest collections, and all that are beyond their bound. */
export function heldBy(parts: Parts): { readonly largest: Held[]; readonly beyond: Held[] } {
  const held = [...walk(parts)].map(({ path, size, bound }) => ({ path, size, bound }));
  held.sort((a, b) => b.size - a.size);
  return { largest: held.slice(0, 5), beyond: held.filter(({ size, bound }) => size > bound) };
}

/** Makes all caches start over, as they do when they are full: what is held then is what does not go by itself. */
export function emptyCaches(parts: Parts): void {
  for (const { path, collection } of [...walk(parts)]) {
    const isCache = collection instanceof Map && CACHES.some((name) => path.endsWith(`.${name}`));
    if (isCache || collection instanceof FingerprintCache) collection.clear();
  }
}

function* walk(parts: Parts): Generator<Found> {
  const seen = new Set<object>();
  const queue: [string, object, number][] = Object.entries(parts).map(([name, part]) => [name, part, MAX_ELEMENTS]);
  for (let next = queue.pop(); next !== undefined; next = queue.pop()) {
    const [path, value, bound] = next;
    if (seen.has(value) || ArrayBuffer.isView(value)) continue;
    seen.add(value);
    if (value instanceof FingerprintCache)
      yield { path, size: 0, bound, collection: value }; // its halves tell their sizes
    else if (isCollection(value))
      yield { path, size: Array.isArray(value) ? value.length : value.size, bound, collection: value };
    const own = boundOf(value);
    for (const [name, child] of childrenOf(value)) {
      if (typeof child === "object" && child !== null) queue.push([`${path}.${name}`, child, own]);
    }
  }
}

function isCollection(value: object): value is Map<unknown, unknown> | Set<unknown> | unknown[] {
  return value instanceof Map || value instanceof Set || Array.isArray(value);
}

function boundOf(owner: object): number {
  return owner instanceof BytesCache ? (Reflect.get(owner, "maxKeys") as number) : MAX_ELEMENTS;
}

function* childrenOf(value: object): Generator<[string, unknown]> {
  if (value instanceof Map) {
    for (const child of value.values()) yield ["*", child];
  } else if (value instanceof Set || Array.isArray(value)) {
    for (const child of value) yield ["*", child];
  } else {
    yield* Object.entries(value);
  }
}
