// StateFolder: the folder of a saved state, which is one process's at a time.
//
//   counts.state        the last state that was written whole
//   counts.state.tmp    one that is being written, or never came to its end
//   counts.state.REASON one that could not be taken in, set aside
//   lock                a socket on which the process that has the folder listens: it is free as soon as that ends, however it does

import { mkdirSync, renameSync, rmSync } from "node:fs";
import { mkdir, open, rename, unlink } from "node:fs/promises";
import { connect, createServer, type Server } from "node:net";
import { join, relative } from "node:path";
import { AiMetrics } from "../ai/metrics.ts";
import { CollectorError } from "../error.ts";
import type { StateFault } from "../self.ts";
import { DEFAULT_SHAPES, type Shapes } from "../series/shape.ts";
import { AiBook } from "./ai-book.ts";
import type { ByteReader } from "./bytes.ts";
import { BrokenState, encodeEnd, encodeFrame, encodeHeader, FrameKind, meaningOf, readerOf } from "./frames.ts";
import { ResetsBook } from "./resets-book.ts";
import { readShown } from "./restore.ts";
import { readFrames, readSavedMs, type StateFile } from "./state-file.ts";
import { StreamedBook } from "./streamed-book.ts";

/** Longest path of a socket, on Linux. */
const MAX_SOCKET_PATH = 107;

/** One frame to be written. */
export interface Frame {
  readonly kind: Exclude<FrameKind, FrameKind.End>;
  readonly payload: Uint8Array;
}

/** A state that was looked through to its end. */
export interface CheckedState extends StateFile {
  readonly savedMs: number;
}

export class StateFolder {
  private readonly file: string;

  private constructor(
    private readonly folder: string,
    private readonly meaning: number,
    private readonly shapes: Shapes,
    private readonly lock: Server,
  ) {
    this.file = join(folder, "counts.state");
  }

  /** `configured`: as in `meaningOf`. Rejects with CollectorError `unavailable` when it is another process's, or cannot be made. */
  static async open(folder: string, configured = "", shapes = DEFAULT_SHAPES): Promise<StateFolder> {
    try {
      await mkdir(folder, { recursive: true });
      return new StateFolder(folder, meaningOf(configured, shapes), shapes, await takeLock(folder));
    } catch (error: unknown) {
      if (error instanceof CollectorError) throw error;
      const reason = error instanceof Error ? error.message : String(error);
      throw new CollectorError("unavailable", `state.folder: ${folder} cannot be used: ${reason}`, { cause: error });
    }
  }

  /**
   * The state of the process before; null when there is none. One that cannot be taken in is renamed, and `onSetAside` told. Throws
   * CollectorError `unavailable` when the file is there and cannot be read.
   */
  read(onSetAside: (fault: StateFault, file: string) => void): CheckedState | null {
    rmSync(`${this.file}.tmp`, { force: true });
    try {
      return checked({ path: this.file, meaning: this.meaning }, this.shapes);
    } catch (error: unknown) {
      if (error instanceof BrokenState) {
        const aside = `${this.file}.${error.fault}`;
        renameSync(this.file, aside);
        onSetAside(error.fault, aside);
        return null;
      }
      if ((error as NodeJS.ErrnoException).code === "ENOENT") return null;
      const reason = error instanceof Error ? error.message : String(error);
      throw new CollectorError("unavailable", `state.folder: ${this.file} cannot be read: ${reason}`, { cause: error });
    }
  }

  /** Writes a state in the place of the last one, once it is whole and on the disk; its bytes. Rejects with what the system says. */
  async write(savedMs: number, frames: AsyncIterable<Frame>): Promise<number> {
    mkdirSync(this.folder, { recursive: true }); // somebody may have removed it
    const temporary = `${this.file}.tmp`;
    const handle = await open(temporary, "w", 0o600);
    let bytes = 0;
    const write = async (...parts: Uint8Array[]) => {
      const { bytesWritten } = await handle.writev(parts);
      const wanted = parts.reduce((sum, { length }) => sum + length, 0);
      if (bytesWritten !== wanted) throw new Error(`ENOSPC: only ${bytesWritten} of ${wanted} bytes were written`);
      bytes += wanted;
    };
    try {
      await write(encodeHeader(savedMs, this.meaning));
      let count = 0;
      for await (const { kind, payload } of frames) {
        await write(encodeFrame(kind, payload), payload);
        count++;
      }
      await write(encodeEnd(count));
      await handle.sync();
    } catch (error: unknown) {
      await handle.close();
      await unlink(temporary).catch(() => {}); // the next one is written over it
      throw error;
    }
    await handle.close();
    await rename(temporary, this.file);
    await syncFolder(this.folder);
    return bytes;
  }

  async close(): Promise<void> {
    await new Promise((resolve) => this.lock.close(resolve));
  }
}

/** Looked through to its end before anything of it is taken in. Throws BrokenState, and what the system says. */
function checked(file: StateFile, shapes: Shapes): CheckedState {
  const savedMs = readSavedMs(file);
  const books: Partial<Record<FrameKind, { restore(reader: ByteReader): void }>> = {
    [FrameKind.Resets]: new ResetsBook(shapes),
    [FrameKind.Ai]: new AiBook(new AiMetrics(0)),
    [FrameKind.Streamed]: new StreamedBook({ saved: () => [], restore: () => {} }, shapes),
  };
  const stores = function* () {
    for (const { kind, payload } of readFrames(file)) {
      if (kind === FrameKind.Store) yield readerOf(payload);
      else books[kind]?.restore(readerOf(payload));
    }
  };
  try {
    readShown(stores(), shapes);
  } catch (error: unknown) {
    throw error instanceof CollectorError ? new BrokenState("corrupt") : error;
  }
  return { ...file, savedMs };
}

async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder, "r");
  await handle.sync().finally(() => handle.close());
}

async function takeLock(folder: string): Promise<Server> {
  const path = join(folder, "lock");
  const short = relative(process.cwd(), path);
  const socket = Buffer.byteLength(path) <= MAX_SOCKET_PATH ? path : short;
  if (Buffer.byteLength(socket) > MAX_SOCKET_PATH) {
    throw new CollectorError("unavailable", `state.folder: the path ${path} is longer than ${MAX_SOCKET_PATH} bytes`);
  }
  try {
    return await listenOn(socket);
  } catch (error: unknown) {
    if ((error as NodeJS.ErrnoException).code !== "EADDRINUSE") throw error;
  }
  if (await isAnswered(socket)) {
    throw new CollectorError("unavailable", `state.folder: ${folder} is another process's, which listens on ${path}`);
  }
  rmSync(socket, { force: true }); // of a process that was killed
  return listenOn(socket);
}

function listenOn(path: string): Promise<Server> {
  return new Promise((resolve, reject) => {
    const server = createServer((connection) => connection.destroy());
    server.once("error", reject);
    server.listen(path, () => {
      server.unref();
      resolve(server);
    });
  });
}

function isAnswered(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const connection = connect(path);
    const end = (answer: boolean) => {
      connection.destroy();
      resolve(answer);
    };
    connection.once("connect", () => end(true));
    connection.once("error", ({ code }: NodeJS.ErrnoException) => end(code !== "ECONNREFUSED" && code !== "ENOENT"));
  });
}
