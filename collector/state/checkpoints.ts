// Checkpoints: saves the state every so often, and at the end; and has what was saved before.

import { setImmediate as turn } from "node:timers/promises";
import type { Log } from "../log.ts";
import { LogLimit } from "../receiver/log-limit.ts";
import type { SelfMetrics, StateFailure } from "../self.ts";
import { type Frame, StateFolder } from "./folder.ts";
import { FrameKind, readerOf } from "./frames.ts";
import { ResetsBook } from "./resets-book.ts";

const PIECE_BYTES = 128 * 1024;

/** Who counts. */
export interface Saved {
  /** All that was counted up to now, in pieces (records.ts). */
  pieces(): AsyncIterable<Uint8Array>;
  /** From now on what `pieces` gave may be shown: it is saved, or cannot be. */
  release(): Promise<void>;
}

export interface CheckpointsOptions {
  readonly folder: string;
  readonly intervalMs: number;
  /** What of the configuration label sets depend on: a state of another is of no use. */
  readonly meaning: string;
  /** For so long it is waited for the targets that were saved to be found again. */
  readonly forgetAfterMs: number;
  readonly self: SelfMetrics;
  readonly log: Log;
}

export class Checkpoints {
  readonly resets = new ResetsBook();
  private restored: Buffer[] = [];
  private readonly faults: LogLimit;
  private readonly startedMs = performance.now();
  private timer: NodeJS.Timeout | undefined;
  private work: Promise<unknown> | null = null;

  private constructor(
    private readonly files: StateFolder,
    private readonly options: CheckpointsOptions,
  ) {
    this.faults = new LogLimit(options.log);
  }

  /** Rejects with CollectorError `unavailable` when the folder is another process's, or cannot be used. */
  static async open(options: CheckpointsOptions): Promise<Checkpoints> {
    const files = await StateFolder.open(options.folder, options.meaning);
    const checkpoints = new Checkpoints(files, options);
    try {
      checkpoints.restore();
    } catch (error: unknown) {
      await files.close();
      throw error;
    }
    return checkpoints;
  }

  /** What the process before this one saved of its shards: frames of records. It is not held any longer. */
  takeRestored(): Buffer[] {
    const taken = this.restored;
    this.restored = [];
    return taken;
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

  private restore(): void {
    const { self, log, folder } = this.options;
    const frames = this.files.read((fault, file) => {
      self.stateSetAside.inc({ reason: fault });
      log.error({ reason: fault, file }, "saved state could not be taken in and was set aside: counting begins anew");
    });
    if (frames === null) return;
    for (const payload of frames.resets) this.resets.restore(readerOf(payload));
    this.restored = [...frames.stores];
    log.info({ folder, saved: new Date(frames.savedMs).toISOString() }, "counting goes on from the saved state");
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
    const { self, forgetAfterMs } = this.options;
    if (performance.now() - this.startedMs > forgetAfterMs) this.resets.releaseUnclaimed();
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
    }
    await saved.release();
    return isSaved;
  }

  /** Between two pieces others have their turn. */
  private async *frames(saved: Saved): AsyncGenerator<Frame> {
    for await (const payload of saved.pieces()) {
      yield { kind: FrameKind.Store, payload };
      await turn();
    }
    for (const payload of this.resets.pieces(PIECE_BYTES)) {
      yield { kind: FrameKind.Resets, payload };
      await turn();
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
