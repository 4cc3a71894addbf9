// gRPC's length-prefixed messages: bytes of a stream as they come -> messages.
// https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md
//
//   u8 compressed (0 or 1), u32 length (big endian), message

import { gunzipSync, inflateSync } from "node:zlib";

const HEADER_BYTES = 5;
const UNPACK = new Map([
  ["gzip", gunzipSync],
  ["deflate", inflateSync],
]);
const NO_BYTES = Buffer.alloc(0);

/** Why a stream cannot be read on. */
export type FrameFault = "too_large" | "malformed" | "encoding_unknown";

export class FrameReader {
  /** The beginning of a message that has not come to its end. */
  private held = NO_BYTES;
  private heldBytes = 0;
  /** So many of them must be there before there is anything to do. */
  private needed = HEADER_BYTES;

  constructor(
    /** Of a message, unpacked. */
    private readonly maxBytes: number,
    /** What a compressed message is packed with: the stream's `grpc-encoding`. */
    private readonly encoding: string,
    /** Takes each message; the bytes are its to keep. */
    private readonly onMessage: (bytes: Buffer) => void,
  ) {}

  /** Whether no message is there in part. */
  get isBetweenMessages(): boolean {
    return this.heldBytes === 0;
  }

  /** Takes the next bytes of the stream. Null, or why it must not be given more. */
  read(chunk: Buffer): FrameFault | null {
    if (this.heldBytes === 0) return this.readFrames(chunk); // fast: messages and chunks begin together
    this.hold(chunk);
    if (this.heldBytes < this.needed) return null;
    const bytes = this.held.subarray(0, this.heldBytes);
    this.held = NO_BYTES;
    this.heldBytes = 0;
    return this.readFrames(bytes);
  }

  private readFrames(bytes: Buffer): FrameFault | null {
    let at = 0;
    this.needed = HEADER_BYTES;
    while (bytes.length - at >= HEADER_BYTES) {
      const length = bytes.readUInt32BE(at + 1);
      if (length > this.maxBytes) return "too_large";
      const start = at + HEADER_BYTES;
      if (bytes.length - start < length) {
        this.needed = HEADER_BYTES + length;
        break;
      }
      const message = bytes.subarray(start, start + length);
      const fault = bytes[at] === 0 ? this.handOn(message) : this.unpack(message);
      if (fault !== null) return fault;
      at = start + length;
    }
    if (at < bytes.length) this.hold(bytes.subarray(at));
    return null;
  }

  private handOn(message: Buffer): null {
    this.onMessage(message);
    return null;
  }

  private unpack(message: Buffer): FrameFault | null {
    const unpack = UNPACK.get(this.encoding);
    if (!unpack) return "encoding_unknown";
    let bytes: Buffer;
    try {
      bytes = unpack(message, { maxOutputLength: this.maxBytes });
    } catch (error: unknown) {
      return (error as NodeJS.ErrnoException).code === "ERR_BUFFER_TOO_LARGE" ? "too_large" : "malformed";
    }
    return this.handOn(bytes);
  }

  /** Copies: a chunk may be a small piece of a large buffer. What is held at most doubles when it grows. */
  private hold(chunk: Buffer): void {
    const end = this.heldBytes + chunk.length;
    if (end > this.held.length) {
      const grown = Buffer.allocUnsafe(Math.max(end, Math.min(this.held.length * 2, this.needed)));
      this.held.copy(grown, 0, 0, this.heldBytes);
      this.held = grown;
    }
    chunk.copy(this.held, this.heldBytes);
    this.heldBytes = end;
  }
}
