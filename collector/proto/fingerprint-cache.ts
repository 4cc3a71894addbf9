// FingerprintCache: what is made of messages with the same fingerprint, made once. The words of all keys lie in a few large arrays: as objects
// of their own they took twice the memory, and the garbage collector's time.

import type { Fingerprint } from "./fingerprint.ts";

const CHUNK_BITS = 16;
const CHUNK_WORDS = 1 << CHUNK_BITS;
/** So many places are looked at for a key. */
const PROBES = 16;

/**
 * Holds at most `maxKeys` keys. When the young half is full, the old half is forgotten: what is asked for again and again stays.
 */
export class FingerprintCache<T> {
  private young: Generation<T>;
  private old: Generation<T>;

  constructor(maxKeys: number) {
    this.young = new Generation(maxKeys >> 1);
    this.old = new Generation(maxKeys >> 1);
  }

  /** Undefined when it is not held. */
  get(fingerprint: Fingerprint): T | undefined {
    const hash = fingerprint.hash();
    const young = this.young.find(hash, fingerprint);
    if (young !== undefined) return young; // fast
    const old = this.old.find(hash, fingerprint);
    if (old !== undefined) this.remember(hash, fingerprint, old);
    return old;
  }

  set(fingerprint: Fingerprint, value: T): void {
    this.remember(fingerprint.hash(), fingerprint, value);
  }

  clear(): void {
    this.young.clear();
    this.old.clear();
  }

  private remember(hash: number, fingerprint: Fingerprint, value: T): void {
    if (this.young.isFull) {
      const forgotten = this.old;
      this.old = this.young;
      this.young = forgotten;
      forgotten.clear();
    }
    this.young.add(hash, fingerprint, value);
  }
}

/** Keys by their hash, with open addressing, and their words behind each other in chunks. */
class Generation<T> {
  private readonly mask: number;
  /** For each slot: the hash, and 1 + the number of the key; 0 when it is free. */
  private readonly slots: Int32Array;
  /** For each key: where its words begin, counted over all chunks. The first one is their number. */
  private readonly places: Int32Array;
  private readonly values: T[] = [];
  private readonly chunks: Int32Array[] = [];
  private end = 0;

  constructor(private readonly maxKeys: number) {
    const slots = 2 ** Math.ceil(Math.log2(Math.max(1, maxKeys) * 2));
    this.mask = slots - 1;
    this.slots = new Int32Array(slots * 2);
    this.places = new Int32Array(maxKeys);
  }

  get isFull(): boolean {
    return this.values.length >= this.maxKeys;
  }

  find(hash: number, fingerprint: Fingerprint): T | undefined {
    const slot = this.slotOf(hash, fingerprint);
    return slot < 0 ? undefined : this.values[(this.slots[2 * slot + 1] as number) - 1];
  }

  add(hash: number, fingerprint: Fingerprint, value: T): void {
    const found = this.slotOf(hash, fingerprint);
    const slot = found < 0 ? ~found : found;
    this.places[this.values.length] = this.keep(fingerprint);
    this.values.push(value);
    this.slots[2 * slot] = hash;
    this.slots[2 * slot + 1] = this.values.length;
  }

  clear(): void {
    this.slots.fill(0);
    this.values.length = 0;
    this.chunks.length = 0;
    this.end = 0;
  }

  /**
   * Where the key stands; or the complement of where it can be put. Where there is no room nearby, that is another's place: a sender
   * who forges collisions slows down its own entries, nothing more.
   */
  private slotOf(hash: number, fingerprint: Fingerprint): number {
    const { slots, mask } = this;
    for (let probe = 0; probe < PROBES; probe++) {
      const slot = (hash + probe) & mask;
      const key = slots[2 * slot + 1] as number;
      if (key === 0) return ~slot;
      if (slots[2 * slot] === hash && this.isKey(key - 1, fingerprint)) return slot;
    }
    return ~(hash & mask);
  }

  private keep({ words, length }: Fingerprint): number {
    const left = CHUNK_WORDS - (this.end % CHUNK_WORDS);
    if (length + 1 > left) this.end += left;
    const place = this.end;
    const chunk = place >>> CHUNK_BITS;
    if (chunk === this.chunks.length) this.chunks.push(new Int32Array(CHUNK_WORDS));
    const kept = this.chunks[chunk] as Int32Array;
    const at = place & (CHUNK_WORDS - 1);
    kept[at] = length;
    kept.set(words.subarray(0, length), at + 1);
    this.end += length + 1;
    return place;
  }

  private isKey(key: number, { words, length }: Fingerprint): boolean {
    const place = this.places[key] as number;
    const kept = this.chunks[place >>> CHUNK_BITS] as Int32Array;
    const at = place & (CHUNK_WORDS - 1);
    if (kept[at] !== length) return false;
    for (let i = 0; i < length; i++) if (kept[at + 1 + i] !== words[i]) return false;
    return true;
  }
}
