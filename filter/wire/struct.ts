// google.protobuf.Struct: written deterministically (keys sorted by the caller), read field by field.
//
//   Struct { map<string, Value> fields = 1; }   a map entry: { string key = 1; Value value = 2; }
//   Value  { oneof: double number_value = 2; string string_value = 3; bool bool_value = 4; Struct struct_value = 5; ... }
// https://github.com/protocolbuffers/protobuf/blob/main/src/google/protobuf/struct.proto

import { LENGTH_DELIMITED, Reader } from "./protobuf.ts";
import { Writer } from "./writer.ts";

const FIELDS_TAG: u8 = 0x0a;
const KEY_TAG: u8 = 0x0a;
const VALUE_TAG: u8 = 0x12;
const STRING_VALUE_TAG: u8 = 0x1a;
const STRUCT_VALUE_TAG: u8 = 0x2a;
const STRING_VALUE: u32 = 3;
const STRUCT_VALUE: u32 = 5;
const LAST_KIND_FIELD: u32 = 6;

/** Builds one Struct. Call in ascending order of key, so that equal content gives equal bytes. */
export class StructWriter {
  private out: Writer = new Writer();

  /** Adds a string field; an empty value is left out. */
  text(key: string, value: string): void {
    if (value.length === 0) return;
    const bytes = String.UTF8.encode(value, false, String.UTF8.ErrorMode.REPLACE);
    this.entry(key, STRING_VALUE_TAG, changetype<usize>(bytes), bytes.byteLength);
  }

  /** Adds a nested Struct, even an empty one. */
  struct(key: string, inner: StructWriter): void {
    const bytes = inner.take();
    this.bytes(key, changetype<usize>(bytes), bytes.length);
  }

  /** Adds a nested Struct that is written already. */
  bytes(key: string, ptr: usize, size: i32): void {
    this.entry(key, STRUCT_VALUE_TAG, ptr, size);
  }

  take(): StaticArray<u8> {
    return this.out.take();
  }

  private entry(key: string, valueTag: u8, ptr: usize, size: i32): void {
    const keyBytes = String.UTF8.encode(key);
    const valueSize = 1 + varintSize(size) + size;
    const keySize = keyBytes.byteLength;
    this.out.u8(FIELDS_TAG);
    this.out.varint(1 + varintSize(keySize) + keySize + 1 + varintSize(valueSize) + valueSize);
    this.out.u8(KEY_TAG);
    this.out.varint(keySize);
    this.out.copy(changetype<usize>(keyBytes), keySize);
    this.out.u8(VALUE_TAG);
    this.out.varint(valueSize);
    this.out.u8(valueTag);
    this.out.varint(size);
    this.out.copy(ptr, size);
  }
}

function varintSize(value: u32): u32 {
  let size: u32 = 1;
  while (value >= 0x80) {
    value >>= 7;
    size++;
  }
  return size;
}

export enum ValueKind {
  /** Null, number, bool, list or absent: nothing that we read. */
  Other,
  Text,
  Struct,
}

/**
 * Reads the fields of one Struct: `while (reader.next()) { reader.keyPtr, keySize, kind, valuePtr, valueSize }`.
 * A map key that stands twice is given twice; the last one counts, by protobuf's rules.
 */
export class StructReader {
  keyPtr: usize = 0;
  keySize: usize = 0;
  kind: ValueKind = ValueKind.Other;
  /** UTF-8 of a Text, the bytes of a Struct. */
  valuePtr: usize = 0;
  valueSize: usize = 0;
  isMalformed: bool = false;
  private fields: Reader = new Reader();
  private inner: Reader = new Reader();

  open(ptr: usize, size: usize): void {
    this.fields.open(ptr, size);
    this.isMalformed = false;
  }

  next(): bool {
    while (this.fields.next()) {
      if (this.fields.field !== 1) continue; // unknown fields are skipped
      if (this.fields.wireType !== LENGTH_DELIMITED || !this.readEntry()) return this.fail();
      return true;
    }
    return this.fields.isMalformed ? this.fail() : false;
  }

  private readEntry(): bool {
    let ptr: usize = 0;
    let size: usize = 0;
    this.keySize = 0;
    this.inner.open(this.fields.ptr, this.fields.size);
    while (this.inner.next()) {
      if (this.inner.wireType !== LENGTH_DELIMITED) continue;
      if (this.inner.field === 1) {
        this.keyPtr = this.inner.ptr;
        this.keySize = this.inner.size;
      } else if (this.inner.field === 2) {
        ptr = this.inner.ptr;
        size = this.inner.size;
      }
    }
    return !this.inner.isMalformed && this.readValue(ptr, size);
  }

  private readValue(ptr: usize, size: usize): bool {
    this.kind = ValueKind.Other;
    this.inner.open(ptr, size);
    while (this.inner.next()) {
      if (this.inner.field > LAST_KIND_FIELD) continue; // unknown: not one of the kinds, of which the last counts
      this.kind = ValueKind.Other;
      if (this.inner.wireType !== LENGTH_DELIMITED) continue;
      if (this.inner.field === STRING_VALUE) this.kind = ValueKind.Text;
      else if (this.inner.field === STRUCT_VALUE) this.kind = ValueKind.Struct;
      this.valuePtr = this.inner.ptr;
      this.valueSize = this.inner.size;
    }
    return !this.inner.isMalformed;
  }

  private fail(): bool {
    this.isMalformed = true;
    return false;
  }
}
