// Table: bytes -> object, open addressing with linear probing. A look-up allocates nothing and compares the whole key, so two
// keys are never taken for one. Nothing is deleted singly; a table that is full is cleared or loses its oldest entries.

import { copyOf } from "./wire/bytes.ts";

class Entry<V> {
  constructor(
    readonly hash: u32,
    /** The key is its bytes from `offset` on. */
    readonly owner: StaticArray<u8>,
    readonly offset: i32,
    readonly value: V,
    /** Rises with every entry: the lowest is the oldest. */
    readonly serial: u32,
  ) {}

  is(hash: u32, ptr: usize, size: usize): bool {
    if (this.hash !== hash || <usize>(this.owner.length - this.offset) !== size) return false;
    return memory.compare(changetype<usize>(this.owner) + this.offset, ptr, size) === 0;
  }
}

export class Table<V> {
  count: i32 = 0;
  private slots: StaticArray<Entry<V> | null>;
  private mask: u32;
  private nextSerial: u32 = 0;

  /** `limit`: how many entries it will hold at most; the caller clears or thins it out before it adds more. */
  constructor(readonly limit: i32) {
    let size: u32 = 64;
    while (size < <u32>limit * 2) size <<= 1;
    this.slots = new StaticArray<Entry<V> | null>(size);
    this.mask = size - 1;
  }

  get isFull(): bool {
    return this.count >= this.limit;
  }

  find(ptr: usize, size: usize): V | null {
    const hash = hashBytes(ptr, size);
    let at = hash & this.mask;
    let entry = this.slots[at];
    while (entry !== null && !entry.is(hash, ptr, size)) {
      at = (at + 1) & this.mask;
      entry = this.slots[at];
    }
    return entry === null ? null : entry.value;
  }

  /** Adds a key that is not there yet; its bytes are copied. The table must not be full. */
  add(ptr: usize, size: usize, value: V): void {
    this.addShared(copyOf(ptr, size), 0, value);
  }

  /** As add(), but the key is the part of `owner` from `offset` on, which is not copied and must never change. */
  addShared(owner: StaticArray<u8>, offset: i32, value: V): void {
    assert(!this.isFull);
    const hash = hashBytes(changetype<usize>(owner) + offset, owner.length - offset);
    this.put(new Entry<V>(hash, owner, offset, value, this.nextSerial++));
  }

  clear(): void {
    for (let i = 0; i < this.slots.length; i++) this.slots[i] = null;
    this.count = 0;
  }

  /** Drops the entries that were added before all but the newest `keep`. */
  keepNewest(keep: i32): void {
    const before = this.slots;
    const oldest = this.nextSerial - <u32>keep;
    this.slots = new StaticArray<Entry<V> | null>(before.length);
    this.count = 0;
    for (let i = 0; i < before.length; i++) {
      const entry = before[i];
      if (entry !== null && entry.serial - oldest < <u32>keep) this.put(entry);
    }
  }

  /** A table of twice the limit with the same entries. */
  doubled(): Table<V> {
    const twice = new Table<V>(this.limit * 2);
    twice.nextSerial = this.nextSerial;
    for (let i = 0; i < this.slots.length; i++) {
      const entry = this.slots[i];
      if (entry !== null) twice.put(entry);
    }
    return twice;
  }

  private put(entry: Entry<V>): void {
    let at = entry.hash & this.mask;
    while (this.slots[at] !== null) at = (at + 1) & this.mask;
    this.slots[at] = entry;
    this.count++;
  }
}

const MULTIPLIER: u64 = 0x9e3779b97f4a7c15;

/** 8 bytes a step: multiply and fold, which is all that linear probing with full comparison needs. */
function hashBytes(ptr: usize, size: usize): u32 {
  let hash: u64 = size;
  const end = ptr + size;
  while (ptr + 8 <= end) {
    hash = (hash ^ load<u64>(ptr)) * MULTIPLIER;
    hash ^= hash >> 32;
    ptr += 8;
  }
  while (ptr < end) {
    hash = (hash ^ <u64>load<u8>(ptr)) * MULTIPLIER;
    hash ^= hash >> 32;
    ptr++;
  }
  return <u32>hash;
}
