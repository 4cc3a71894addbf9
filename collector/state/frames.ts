// The file of a saved state: a header, frames of records, an end. All numbers are little-endian.
//
//   header  "MTSTATE" 0 | u32 version | u32 CRC of the vocabulary and of `meaning` | f64 when, Unix ms | u32 CRC of the header
//   frame   u32 length | u32 CRC | u8 kind | payload of that length
//   end     a frame of kind 0: u32 frames before it
//
// A file that does not end so was not written to its end. Rows and label sets mean what the vocabulary says, hence its CRC.

import { crc32 } from "node:zlib";
import type { StateFault } from "../self.ts";
import { SHAPES } from "../series/shape.ts";
import { HISTOGRAM_BOUNDS, HTTP_METRICS, LABELS, TCP_METRICS } from "../vocabulary.ts";
import { ByteReader } from "./bytes.ts";

const MAGIC = Buffer.from("MTSTATE\0", "latin1");
const STATE_VERSION = 1;
const HEADER_BYTES = MAGIC.length + 4 + 4 + 8 + 4;
const FRAME_HEADER_BYTES = 9;
const VOCABULARY = crc32(
  JSON.stringify([
    LABELS,
    [...HTTP_METRICS, ...TCP_METRICS].map(({ name }) => name),
    HISTOGRAM_BOUNDS,
    SHAPES.map(({ width }) => width),
  ]),
);

/** Of whom a frame's records are. */
export enum FrameKind {
  End = 0,
  /** Of a shard's store (records.ts). */
  Store = 1,
  /** Of targets (resets-book.ts). */
  Resets = 2,
}

export interface StateFrames {
  readonly savedMs: number;
  readonly stores: readonly Buffer[];
  readonly resets: readonly Buffer[];
}

/** `meaning`: what of the configuration label sets depend on. */
export function encodeHeader(savedMs: number, meaning: string): Buffer {
  const header = Buffer.alloc(HEADER_BYTES);
  MAGIC.copy(header);
  header.writeUInt32LE(STATE_VERSION, MAGIC.length);
  header.writeUInt32LE(crc32(meaning, VOCABULARY), MAGIC.length + 4);
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

/** The frames of a whole file; else why it is none of ours, or not whole. Payloads are views of `bytes`. */
export function decodeFrames(bytes: Buffer, meaning: string): StateFrames | StateFault {
  if (!bytes.subarray(0, MAGIC.length).equals(MAGIC.subarray(0, bytes.length)) || bytes.length === 0) return "foreign";
  if (bytes.length < HEADER_BYTES) return "cut_short";
  if (bytes.readUInt32LE(MAGIC.length) > STATE_VERSION) return "newer";
  if (bytes.readUInt32LE(HEADER_BYTES - 4) !== crc32(bytes.subarray(0, HEADER_BYTES - 4))) return "corrupt";
  if (bytes.readUInt32LE(MAGIC.length) !== STATE_VERSION) return "foreign";
  if (bytes.readUInt32LE(MAGIC.length + 4) !== crc32(meaning, VOCABULARY)) return "other_vocabulary";
  const frames = { savedMs: bytes.readDoubleLE(MAGIC.length + 8), stores: [] as Buffer[], resets: [] as Buffer[] };
  for (let at = HEADER_BYTES, count = 0; ; count++) {
    if (at + FRAME_HEADER_BYTES > bytes.length) return "cut_short";
    const start = at + FRAME_HEADER_BYTES;
    const end = start + bytes.readUInt32LE(at);
    if (end > bytes.length) return "cut_short";
    const payload = bytes.subarray(start, end);
    if (bytes.readUInt32LE(at + 4) !== crc32(payload, crc32(bytes.subarray(at + 8, start)))) return "corrupt";
    const kind = bytes[at + 8];
    if (kind === FrameKind.End) return payload.readUInt32LE() === count && end === bytes.length ? frames : "corrupt";
    if (kind === FrameKind.Store) frames.stores.push(payload);
    else if (kind === FrameKind.Resets) frames.resets.push(payload);
    else return "corrupt";
    at = end;
  }
}

/** Reads a frame's payload. */
export function readerOf(payload: Buffer): ByteReader {
  return new ByteReader(payload, 0, payload.length);
}
