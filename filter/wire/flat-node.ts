// FlatNode: the FlatBuffer that Istio's proxies (up to 1.23) leave as `wasm.upstream_peer` / `wasm.downstream_peer`, and that
// SkyWalking reads. Only written here, front to back: each offset points forward, as FlatBuffers want.
// Source: istio/proxy, extensions/common/node_info.fbs. https://flatbuffers.dev/internals/
//
//   [u32 offset of root] [vtable of FlatNode] [vtable of KeyVal] [root table] [strings, label vector, label tables]
//   vtable: u16 own size, u16 table size, u16 offset in the table per slot (0: absent)
//   table:  i32 back to its vtable, then a u32 per slot in use: the offset from there to the string or vector
//   string: u32 length, bytes, NUL, padding to 4

import { Writer } from "./writer.ts";

/** Slots of table FlatNode, in the schema's order; those that are never written are not named. */
export enum FlatSlot {
  Name = 0,
  Namespace = 1,
  Labels = 2,
  Owner = 3,
  WorkloadName = 4,
  ClusterId = 9,
}

/** Slots of the schema, those that stay empty included. */
export const SLOTS = 11;
const TABLE_SIZE = 4 + SLOTS * 4; // every slot has its place, so that offsets are constants
const VTABLE_SIZE = 4 + SLOTS * 2;
const KEY_VALUE_VTABLE_SIZE = 8;
const KEY_VALUE_TABLE_SIZE = 12;

/**
 * Encodes a node. `slots[s]` is the text of slot s ("" is left out); label keys must be in ascending order of their bytes,
 * since readers search them.
 */
export function encodeFlatNode(
  slots: StaticArray<string>,
  labelKeys: string[],
  labelValues: string[],
): StaticArray<u8> {
  const out = new Writer();
  const vtable = 4;
  const keyValueVtable = vtable + VTABLE_SIZE;
  const table = align4(keyValueVtable + KEY_VALUE_VTABLE_SIZE);
  const hasLabels = labelKeys.length > 0;

  out.u32(table);
  out.u16(<u16>VTABLE_SIZE);
  out.u16(<u16>TABLE_SIZE);
  for (let s = 0; s < SLOTS; s++) {
    const isPresent = s === FlatSlot.Labels ? hasLabels : slots[s].length > 0;
    out.u16(isPresent ? <u16>(4 + s * 4) : 0);
  }
  out.u16(<u16>KEY_VALUE_VTABLE_SIZE);
  out.u16(<u16>KEY_VALUE_TABLE_SIZE);
  out.u16(4);
  out.u16(8);
  out.zeros(table - out.length);
  out.u32(table - vtable);
  out.zeros(SLOTS * 4);

  for (let s = 0; s < SLOTS; s++) {
    if (s !== FlatSlot.Labels && slots[s].length > 0) writeText(out, table + 4 + s * 4, slots[s]);
  }
  if (hasLabels) writeLabels(out, table + 4 + FlatSlot.Labels * 4, keyValueVtable, labelKeys, labelValues);
  return out.take();
}

function writeLabels(out: Writer, field: i32, vtable: i32, keys: string[], values: string[]): void {
  out.patchU32(field, out.length - field);
  out.u32(keys.length);
  const vector = out.length;
  out.zeros(keys.length * 4);
  for (let i = 0; i < keys.length; i++) {
    const table = out.length;
    out.patchU32(vector + i * 4, table - (vector + i * 4));
    out.u32(table - vtable);
    out.zeros(8);
    writeText(out, table + 4, keys[i]);
    writeText(out, table + 8, values[i]);
  }
}

/** Appends a string and makes the field at `field` point to it. */
function writeText(out: Writer, field: i32, text: string): void {
  const bytes = String.UTF8.encode(text, false, String.UTF8.ErrorMode.REPLACE);
  out.patchU32(field, out.length - field);
  out.u32(bytes.byteLength);
  out.copy(changetype<usize>(bytes), bytes.byteLength);
  out.u8(0);
  out.zeros(align4(out.length) - out.length);
}

function align4(at: i32): i32 {
  return (at + 3) & ~3;
}
