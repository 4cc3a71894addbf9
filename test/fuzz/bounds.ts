// What a part of the collector holds: every Map, Set and array that is reachable from it, with the path that leads there.

import { BytesCache } from "../../collector/proto/bytes-cache.ts";

/** No cache of the collector holds more. */
const MAX_ELEMENTS = 16_384;

export interface Held {
  readonly path: string;
  readonly size: number;
  readonly bound: number;
}

/** The largest collections, and all that are beyond their bound. */
export function heldBy(parts: Readonly<Record<string, object>>): { readonly largest: Held[]; readonly beyond: Held[] } {
  const held = [...walk(parts)].sort((a, b) => b.size - a.size);
  return { largest: held.slice(0, 5), beyond: held.filter(({ size, bound }) => size > bound) };
}

function* walk(parts: Readonly<Record<string, object>>): Generator<Held> {
  const seen = new Set<object>();
  const queue: [string, object, number][] = Object.entries(parts).map(([name, part]) => [name, part, MAX_ELEMENTS]);
  for (let next = queue.pop(); next !== undefined; next = queue.pop()) {
    const [path, value, bound] = next;
    if (seen.has(value) || ArrayBuffer.isView(value)) continue;
    seen.add(value);
    const size = sizeOf(value);
    if (size !== null) yield { path, size, bound };
    const own = boundOf(value);
    for (const [name, child] of childrenOf(value)) {
      if (typeof child === "object" && child !== null) queue.push([`${path}.${name}`, child, own]);
    }
  }
}

function sizeOf(value: object): number | null {
  if (value instanceof Map || value instanceof Set) return value.size;
  return Array.isArray(value) ? value.length : null;
}

function boundOf(owner: object): number {
  return owner instanceof BytesCache ? (owner as unknown as { readonly maxKeys: number }).maxKeys : MAX_ELEMENTS;
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
