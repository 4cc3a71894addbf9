// StateFile: reads a saved state frame by frame, so that a file of any length takes no more memory than its longest frame.

import { closeSync, fstatSync, openSync, readSync } from "node:fs";
import type { ByteReader } from "./bytes.ts";
import {
  BrokenState,
  decodeHeader,
  FRAME_HEADER_BYTES,
  FrameKind,
  frameKind,
  HEADER_BYTES,
  isWhole,
  payloadLength,
  readerOf,
  type StoredFrame,
} from "./frames.ts";

/** A state that was saved: plain, so that each thread reads it by itself. It stays as it is until the first saving. */
export interface StateFile {
  readonly path: string;
  /** As in `encodeHeader`. */
  readonly meaning: number;
}

/** When it was saved, Unix ms. Throws BrokenState, and what the system says. */
export function readSavedMs({ path, meaning }: StateFile): number {
  return whileOpen(path, (file) => decodeHeader(file.read(0, Math.min(HEADER_BYTES, file.size)), meaning));
}

/** The frames up to the end, of one kind, if it is given: the others are passed over unread. Throws as `readSavedMs` does. */
export function* readFrames({ path, meaning }: StateFile, only: FrameKind | null = null): Generator<StoredFrame> {
  const fd = openSync(path, "r");
  try {
    yield* framesOf(new OpenFile(fd), meaning, only);
  } finally {
    closeSync(fd);
  }
}

/** Those of shards' stores (restore.ts). */
export function* readStores(file: StateFile): Generator<ByteReader> {
  for (const { payload } of readFrames(file, FrameKind.Store)) yield readerOf(payload);
}

function* framesOf(file: OpenFile, meaning: number, only: FrameKind | null): Generator<StoredFrame> {
  decodeHeader(file.read(0, Math.min(HEADER_BYTES, file.size)), meaning);
  let at = HEADER_BYTES;
  for (let count = 0; ; count++) {
    const header = file.read(at, FRAME_HEADER_BYTES);
    const kind = frameKind(header);
    const start = at + FRAME_HEADER_BYTES;
    at = start + payloadLength(header);
    if (at > file.size) throw new BrokenState("cut_short");
    if (only !== null && kind !== only && kind !== FrameKind.End) continue;
    const payload = file.read(start, at - start);
    if (!isWhole(header, payload)) throw new BrokenState("corrupt");
    if (kind === FrameKind.End) {
      if (payload.length === 4 && payload.readUInt32LE() === count && at === file.size) return;
      throw new BrokenState("corrupt");
    }
    if (FrameKind[kind] === undefined) throw new BrokenState("corrupt");
    yield { kind, payload };
  }
}

class OpenFile {
  readonly size: number;

  constructor(private readonly fd: number) {
    this.size = fstatSync(fd).size;
  }

  /** So many bytes, all of them there. Throws BrokenState where there are fewer. */
  read(at: number, length: number): Buffer {
    if (at + length > this.size) throw new BrokenState("cut_short");
    const bytes = Buffer.allocUnsafe(length);
    for (let done = 0; done < length; ) {
      const read = readSync(this.fd, bytes, done, length - done, at + done);
      if (read === 0) throw new BrokenState("cut_short");
      done += read;
    }
    return bytes;
  }
}

function whileOpen<Result>(path: string, work: (file: OpenFile) => Result): Result {
  const fd = openSync(path, "r");
  try {
    return work(new OpenFile(fd));
  } finally {
    closeSync(fd);
  }
}
