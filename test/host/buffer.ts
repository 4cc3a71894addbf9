// A network buffer as wasm reads and changes it.
// https://github.com/envoyproxy/envoy/blob/main/source/extensions/common/wasm/context.cc (Buffer::copyFrom)

import { STATUS } from "./status.ts";

/** What is on its way in one direction, while a data callback shows it. */
export interface DataBuffer {
  bytes: Buffer;
}

/** The bytes from `start` on, `length` at most: fewer when the buffer ends before, none when there is no buffer to see. */
export function readBuffer(buffer: DataBuffer | undefined, start: number, length: number): Buffer {
  return buffer === undefined ? Buffer.alloc(0) : buffer.bytes.subarray(start, start + length);
}

/** Replaces the first `length` bytes, or those that there are; behind the end it appends; it changes nothing in between. */
export function writeBuffer(buffer: DataBuffer | undefined, start: number, length: number, bytes: Buffer): number {
  if (buffer === undefined) return STATUS.badArgument;
  if (start === 0) buffer.bytes = Buffer.concat([bytes, buffer.bytes.subarray(length)]);
  else if (start >= buffer.bytes.length) buffer.bytes = Buffer.concat([buffer.bytes, bytes]);
  else return STATUS.badArgument;
  return STATUS.ok;
}
