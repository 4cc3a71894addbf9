// Sends a body in pieces as fast as its reader takes it, and lets others have their turn between two.

import type { ServerResponse } from "node:http";
import type { Writable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { setImmediate as turn } from "node:timers/promises";
import { createGzip } from "node:zlib";

/** Label texts repeat so much that the fastest level already packs them fortyfold. */
const GZIP_LEVEL = 1;
const GZIP_CHUNK_BYTES = 64 * 1024;

/**
 * Writes the pieces and ends the stream. While one is under way the next is made, and none is asked for before the last but one has left
 * its memory. An empty piece is a turn of the event loop. When the reader leaves, nothing more is asked for, and that is no error;
 * rejects with what the pieces throw, the stream left as it is.
 */
export async function send(pieces: AsyncIterable<Buffer | string>, to: Writable): Promise<void> {
  let underWay = Promise.resolve(true);
  for await (const piece of pieces) {
    if (!(await underWay)) return;
    if (piece.length > 0) underWay = write(piece, to);
    await turn();
  }
  if (await underWay) to.end();
}

/** The same through gzip, which works in a thread of its own. */
export async function sendPacked(pieces: AsyncIterable<Buffer | string>, response: ServerResponse): Promise<void> {
  const gzip = createGzip({ level: GZIP_LEVEL, chunkSize: GZIP_CHUNK_BYTES });
  // A reader that leaves closes both, and so `send` sees it.
  const passedOn = pipeline(gzip, response).catch(() => {});
  await send(pieces, gzip);
  await passedOn;
}

/** Resolves when the piece's memory is free again; to false when the reader is gone. */
function write(piece: Buffer | string, to: Writable): Promise<boolean> {
  return new Promise((resolve) => {
    const leave = () => resolve(false);
    if (to.destroyed) return leave();
    to.once("close", leave);
    to.write(piece, (error) => {
      to.off("close", leave);
      resolve(!error);
    });
  });
}
