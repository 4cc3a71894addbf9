// Checkpoints: saves the state every so often, and at the end; and has what was saved before.

import { setImmediate as turn } from "node:timers/promises";
import type { Log } from "../log.ts";
import { LogLimit } from "../receiver/log-limit.ts";
import type { SelfMetrics, StateFailure, StateFault } from "../self.ts";
import type { Shapes } from "../series/shape.ts";
import type { ByteReader } from "./bytes.ts";
import { type CheckedState, type Frame, StateFolder } from "./folder.ts";
import { FrameKind, readerOf } from "./frames.ts";
import { readFrames, type StateFile } from "./state-file.ts";

const PIECE_BYTES = 128 * 1024;

/** What a state would have had to be, instead of what it was set aside for. */
const EXPECTED: Readonly<Record<StateFault, string>> = {
  foreign: "a state that a collector saved",
  newer: "a state of this version, or of an older one",
  other_vocabulary: "a state of the same metrics.labels, metrics.pod_labels, metrics.bounds and metrics.destinations",
  cut_short: "a state that was written to its end",
  corrupt: "the bytes that were written",
};

/** Who counts. */
export interface Saved {
  /** All that was counted up to now, in pieces (records.ts). */
  pieces(): AsyncIterable<Uint8Array>;
  /** From now on what `pieces` gave may be shown: it is saved, or cannot be. */
  release(): Promise<void>;
}

/** What is counted beside the shards; it is saved behind them. */
export interface Book {
  /** All that was counted up to now, in pieces; each some ms of work. */
  pieces(pieceBytes: number): Iterable<Buffer>;
  /** Takes in one of the pieces that the process before this one saved. */
  restore(reader: ByteReader): void;
  /** From now on what `pieces` gave may be shown: it is saved, or cannot be. */
  onSaved?(): void;
}

export interface CheckpointsOptions {
  readonly folder: string;
  readonly intervalMs: number;
  /** What of the configuration label sets depend on: a state of another is of no use. */
  readonly meaning: string;
  /** How rows are laid out: one of other bounds is of no use, either. */
  readonly shapes: Shapes;
  readonly self: SelfMetrics;
  readonly log: Log;
}

export class Checkpoints {
  /** What the process before this one saved; null when there is none. Read before the first saving, it is as it was. */
  readonly restored: StateFile | null;
  private readonly books: { readonly kind: Frame["kind"]; readonly book: Book }[] = [];
  private readonly faults: LogLimit;
  private timer: NodeJS.Timeout | undefined;
  private work: Promise<unknown> | null = null;

  private constructor(
    private readonly files: StateFolder,
    private readonly options: CheckpointsOptions,
  ) {
    this.faults = new LogLimit(options.log);
    this.restored = this.find();
  }

  /** Rejects with CollectorError `unavailable` when the folder is another process's, or cannot be used. */
  static async open(options: CheckpointsOptions): Promise<Checkpoints> {
    const files = await StateFolder.open(options.folder, options.meaning, options.shapes);
    try {
      return new Checkpoints(files, options);
    } catch (error: unknown) {
      await files.close();
      throw error;
    }
  }

  /** Gives the book what was saved of it, and saves it from now on. To be called before `start`. */
  keep(kind: Frame["kind"], book: Book): void {
    this.books.push({ kind, book });
    if (this.restored === null) return;
    for (const { payload } of readFrames(this.restored, kind)) book.restore(readerOf(payload));
  }

  /** Saves from now on, an interval after the last one ended. */
  start(saved: Saved): void {
    this.timer = setTimeout(async () => {
      await this.saveNow(saved);
      if (this.timer !== undefined) this.start(saved);
    }, this.options.intervalMs);
  }

  /** Saves all there is, and lets go of the folder. */
  async stop(saved: Saved): Promise<void> {
    clearTimeout(this.timer);
    this.timer = undefined;
    await this.work;
    // Again if it failed: threads may just have been told to wait for nothing any more.
    if (!(await this.saveNow(saved))) await this.saveNow(saved);
    await this.files.close();
  }

  /** Lets go of the folder alone. */
  abandon(): Promise<void> {
    clearTimeout(this.timer);
    this.timer = undefined;
    return this.files.close();
  }

  private find(): CheckedState | null {
    const { self, log, folder } = this.options;
    const found = this.files.read((fault, file) => {
      self.stateSetAside.inc({ reason: fault });
      log.error(
        { reason: fault, expected: EXPECTED[fault], file },
        "saved state could not be taken in and was set aside: counting begins anew",
      );
    });
    if (found === null) return null;
    log.info({ folder, saved: new Date(found.savedMs).toISOString() }, "counting goes on from the saved state");
    return found;
  }

  /** Whether that was done. Never rejects. */
  private saveNow(saved: Saved): Promise<boolean> {
    const saving = this.save(saved).catch((error: unknown) => {
      this.faults.error("internal", { err: error }, "state could not be saved");
      this.options.self.stateFailures.inc({ reason: "other" });
      return false;
    });
    this.work = saving;
    return saving;
  }

  private async save(saved: Saved): Promise<boolean> {
    const { self } = this.options;
    const begunMs = performance.now();
    let isSaved = false;
    const savedMs = Date.now();
    try {
      const bytes = await this.files.write(savedMs, this.frames(saved));
      isSaved = true;
      self.stateBytes.set(bytes);
      self.stateSaved.set(savedMs / 1000);
      self.stateSeconds.observe((performance.now() - begunMs) / 1000);
    } catch (error: unknown) {
      const reason = failureOf(error);
      self.stateFailures.inc({ reason });
      this.faults.error(
        reason,
        { err: error, reason },
        "state could not be saved: what is counted is shown all the same",
      );
      // Shown is what was told, and most of it was not, if it failed at the beginning.
      for await (const _ of this.frames(saved));
    }
    await saved.release();
    for (const { book } of this.books) book.onSaved?.();
    return isSaved;
  }

  /** Between two pieces others have their turn. */
  private async *frames(saved: Saved): AsyncGenerator<Frame> {
    for await (const payload of saved.pieces()) {
      yield { kind: FrameKind.Store, payload };
      await turn();
    }
    for (const { kind, book } of this.books) {
      for (const payload of book.pieces(PIECE_BYTES)) {
        yield { kind, payload };
        await turn();
      }
    }
  }
}

const FAILURES: Readonly<Record<string, StateFailure>> = {
  ENOSPC: "disk_full",
  EDQUOT: "disk_full",
  EFBIG: "disk_full",
  EROFS: "read_only",
  EACCES: "read_only",
  EPERM: "read_only",
  ENOENT: "folder_gone",
  ENOTDIR: "folder_gone",
};

function failureOf(error: unknown): StateFailure {
  const { code, message = "" } = error as NodeJS.ErrnoException;
  return FAILURES[code ?? message.split(":", 1)[0] ?? ""] ?? "other";
}
