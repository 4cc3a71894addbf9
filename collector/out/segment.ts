// Segments: the files of a queue on disk. One holds records, one behind the other:
//
//   offset 0          4          8           12                 20
//         +----------+----------+-----------+------------------+------- ... -------+
//         | length   | CRC-32   | samples   | collected        | body              |
//         | u32      | u32      | u32       | Unix ms, f64     | `length` bytes    |
//         +----------+----------+-----------+------------------+------- ... -------+
// All little endian. The CRC is of what is behind it, so a record is whole or is not one.

import { crc32 } from "node:zlib";
import type { Batch } from "./batch.ts";

export const HEADER_BYTES = 20;
const CRC_FROM = 8;
/** Longer than any batch: a length beyond it is none. */
const MAX_BODY_BYTES = 64 * 1024 * 1024;

export interface FoundRecord {
  /** Place of the record in its file. */
  readonly at: number;
  /** Bytes of the whole record. */
  readonly length: number;
  readonly batch: Batch;
}

export function encodeRecord({ body, samples, collectedMs }: Batch): Buffer {
  const record = Buffer.allocUnsafe(HEADER_BYTES + body.length);
  record.writeUInt32LE(body.length, 0);
  record.writeUInt32LE(samples, 8);
  record.writeDoubleLE(collectedMs, 12);
  body.copy(record, HEADER_BYTES);
  record.writeUInt32LE(crc32(record.subarray(CRC_FROM)), 4);
  return record;
}

/** Bytes of the whole record whose header this is; null when it is none. */
export function recordLength(header: Buffer): number | null {
  if (header.length < HEADER_BYTES) return null;
  const length = header.readUInt32LE(0);
  return length <= MAX_BODY_BYTES ? HEADER_BYTES + length : null;
}

/** What a whole record holds, its body a part of it; null when it is damaged. */
export function decodeRecord(record: Buffer): Batch | null {
  if (record.length < HEADER_BYTES || recordLength(record) !== record.length) return null;
  if (record.readUInt32LE(4) !== crc32(record.subarray(CRC_FROM))) return null;
  const collectedMs = record.readDoubleLE(12);
  return { body: record.subarray(HEADER_BYTES), samples: record.readUInt32LE(8), collectedMs };
}

/** The records of a file, up to its end or the first that is not whole. */
export function* recordsOf(file: Buffer): Generator<FoundRecord> {
  let at = 0;
  while (at < file.length) {
    const length = recordLength(file.subarray(at));
    const batch = length === null ? null : decodeRecord(file.subarray(at, at + length));
    if (length === null || batch === null) return;
    yield { at, length, batch };
    at += length;
  }
}
