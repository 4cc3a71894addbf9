// The file of a saved state: a header, frames of records, an end. All numbers are little-endian.
//
//   header  "MTSTATE" 0 | u32 version | u32 CRC of the vocabulary, the bounds and `meaning` | f64 when, Unix ms | u32 CRC of the header
//   frame   u32 length | u32 CRC | u8 kind | payload of that length
//   end     a frame of kind 0: u32 frames before it
//
// A file that does not end so was not written to its end. Rows and label sets mean what the vocabulary says, hence its CRC.

import { crc32 } from "node:zlib";
import type { StateFault } from "../self.ts";
import type { Shapes } from "../series/shape.ts";
import { HTTP_METRICS, LABELS, TCP_METRICS } from "../vocabulary.ts";
import { ByteReader } from "./bytes.ts";

const MAGIC = Buffer.from("MTSTATE\0", "latin1");
/** 2 has frames and records that 1 has not; all that 1 has, means the same. */
const STATE_VERSION = 2;
const OLDEST_VERSION = 1;
export const HEADER_BYTES = MAGIC.length + 4 + 4 + 8 + 4;
export const FRAME_HEADER_BYTES = 9;

/** What rows and label sets mean. `configured`: what of the configuration label sets depend on. */
export function meaningOf(configured: string, shapes: Shapes): number {
  const metrics = [...HTTP_METRICS, ...TCP_METRICS].map(({ name }) => name);
  const widths = shapes.map(({ width }) => width);
  return crc32(configured, crc32(JSON.stringify([LABELS, metrics, shapes[0].layout.bounds.upper, widths])));
}

/** Of whom a frame's records are. */
export enum FrameKind {
  End = 0,
  /** Of a shard's store (records.ts). */
  Store = 1,
  /** Of targets (resets-book.ts). */
  Resets = 2,
  /** Of processes that report by the metrics service (streamed-book.ts). */
  Streamed = 3,
  /** Of AI gateways (ai-book.ts). */
  Ai = 4,
}

/** A frame as it stands in the file. */
export interface StoredFrame {
  readonly kind: FrameKind;
  readonly payload: Buffer;
}

/** Why a file cannot be taken in. */
export class BrokenState extends Error {
  constructor(readonly fault: StateFault) {
    super(`saved state: ${fault}`);
  }
}

/** `meaning`: of `meaningOf`. */
export function encodeHeader(savedMs: number, meaning: number): Buffer {
  const header = Buffer.alloc(HEADER_BYTES);
  MAGIC.copy(header);
  header.writeUInt32LE(STATE_VERSION, MAGIC.length);
  header.writeUInt32LE(meaning, MAGIC.length + 4);
  header.writeDoubleLE(savedMs, MAGIC.length + 8);
  header.writeUInt32LE(crc32(header.subarray(0, -4)), HEADER_BYTES - 4);
  return header;
}

/** What stands before the payload. */
export function encodeFrame(kind: FrameKind, payload: Uint8Array): Buffer {
  const header = Buffer.alloc(FRAME_HEADER_BYTES);
  header.writeUInt32LE(payload.length, 0);
  header.writeUInt8(kind, 8);
  header.writeUInt32LE(crc32(payload, crc32(header.subarray(8))), 4);
  return header;
}

export function encodeEnd(frames: number): Buffer {
  const payload = Buffer.alloc(4);
  payload.writeUInt32LE(frames);
  return Buffer.concat([encodeFrame(FrameKind.End, payload), payload]);
}

/** When the state was saved, Unix ms. `bytes`: those of a header, or all that the file has. Throws BrokenState. */
export function decodeHeader(bytes: Buffer, meaning: number): number {
  const isOurs = bytes.length > 0 && bytes.subarray(0, MAGIC.length).equals(MAGIC.subarray(0, bytes.length));
  if (!isOurs) throw new BrokenState("foreign");
  if (bytes.length < HEADER_BYTES) throw new BrokenState("cut_short");
  const version = bytes.readUInt32LE(MAGIC.length);
  if (version > STATE_VERSION) throw new BrokenState("newer");
  if (bytes.readUInt32LE(HEADER_BYTES - 4) !== crc32(bytes.subarray(0, HEADER_BYTES - 4))) {
    throw new BrokenState("corrupt");
  }
  if (version < OLDEST_VERSION) throw new BrokenState("foreign");
  if (bytes.readUInt32LE(MAGIC.length + 4) !== meaning) throw new BrokenState("other_vocabulary");
  return bytes.readDoubleLE(MAGIC.length + 8);
}

/** How long the payload is that follows. */
export function payloadLength(header: Buffer): number {
  return header.readUInt32LE(0);
}

export function frameKind(header: Buffer): number {
  return header.readUInt8(8);
}

export function isWhole(header: Buffer, payload: Buffer): boolean {
  return header.readUInt32LE(4) === crc32(payload, crc32(header.subarray(8)));
}

/** Reads a frame's payload. */
export function readerOf(payload: Buffer): ByteReader {
  return new ByteReader(payload, 0, payload.length);
}
