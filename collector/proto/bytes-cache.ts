// A bounded cache keyed by bytes: what is made of the same bytes again and again is made once. The bytes are hashed in place;
// a string made of them as a Map key would cost twice as much (0.9 against 0.4 microseconds for a peer of 450 bytes).

interface Known<T> {
  readonly key: Buffer;
  readonly value: T;
}

export class BytesCache<T> {
  private readonly byHash = new Map<number, Known<T>>();

  /** Holds at most `maxKeys` keys, each of at most `maxKeyBytes`; when it is full it starts over. */
  constructor(
    private readonly maxKeys: number,
    private readonly maxKeyBytes: number,
  ) {}

  /** The value that bytes[start, stop) stand for; `make` is asked for it when it is not held. */
  resolve(bytes: Buffer, start: number, stop: number, make: (bytes: Buffer, start: number, stop: number) => T): T {
    if (stop - start > this.maxKeyBytes) return make(bytes, start, stop);
    const hash = hashOf(bytes, start, stop);
    const known = this.byHash.get(hash);
    if (known?.key.length === stop - start && known.key.compare(bytes, start, stop) === 0) return known.value;
    const value = make(bytes, start, stop);
    if (this.byHash.size >= this.maxKeys) this.byHash.clear();
    // Of two keys with one hash the later stays: a sender who forges collisions slows down its own entries, nothing more.
    this.byHash.set(hash, { key: Buffer.from(bytes.subarray(start, stop)), value });
    return value;
  }
}

/** Four bytes a step; need not be strong, since the bytes are compared. */
function hashOf(bytes: Buffer, start: number, stop: number): number {
  let hash = stop - start;
  let at = start;
  for (; at + 4 <= stop; at += 4) {
    const word =
      (bytes[at] as number) |
      ((bytes[at + 1] as number) << 8) |
      ((bytes[at + 2] as number) << 16) |
      ((bytes[at + 3] as number) << 24);
    hash = Math.imul(hash ^ word, 0x9e3779b1);
    hash ^= hash >>> 15;
  }
  for (; at < stop; at++) hash = Math.imul(hash ^ (bytes[at] as number), 0x9e3779b1);
  return hash;
}
