// Kubernetes objects from files, kept fresh: read at the start and whenever a file changes, all or nothing. Whatever cannot be read
// leaves the former objects in force, is counted, and told with file and reason.

import { type FSWatcher, watch } from "node:fs";
import { readdir, readFile, stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import { CollectorError } from "../error.ts";
import type { Log } from "../log.ts";
import type { ReloadResult, SelfMetrics } from "../self.ts";
import { CurrentIndex } from "./current-index.ts";
import { readObjects } from "./files.ts";
import { AddressIndex, type NameRules } from "./lookup.ts";
import { noObjects, type Objects } from "./objects.ts";

/** Notices of one change come in a row. */
const SETTLE_MS = 100;

const OBJECT_FILE = /^[^.].*\.(ya?ml|json)$/;

export interface KubernetesOptions {
  /** Files, and folders whose `.yaml`, `.yml` and `.json` files count. */
  readonly paths: readonly string[];
  /** How often it is looked whether they changed, besides the system's notices. */
  readonly intervalMs: number;
  /** Of all files together. */
  readonly maxBytes: number;
  readonly rules: NameRules;
  /** Told of the objects that are in force from now on; they must not be changed. */
  readonly onRead?: (objects: Objects) => void;
  readonly self: SelfMetrics;
  readonly log: Log;
}

interface ObjectFile {
  readonly path: string;
  readonly bytes: number;
  /** Different when the file was replaced or written to. */
  readonly mark: string;
}

export class KubernetesObjects extends CurrentIndex {
  /** What was read last, or tried to. */
  private seen = "";
  private refreshing: Promise<void> = Promise.resolve();
  private readonly watchers: FSWatcher[] = [];
  private poll: NodeJS.Timeout | null = null;
  private settling: NodeJS.Timeout | null = null;

  constructor(private readonly options: KubernetesOptions) {
    super(options.rules);
  }

  /** Resolves when the files were read once, with or without success. */
  async start(): Promise<void> {
    const { paths, intervalMs } = this.options;
    if (paths.length === 0) return;
    for (const path of paths) await this.watch(path);
    this.poll = setInterval(() => this.refresh(), intervalMs);
    await this.refresh();
  }

  async stop(): Promise<void> {
    if (this.poll !== null) clearInterval(this.poll);
    if (this.settling !== null) clearTimeout(this.settling);
    for (const watcher of this.watchers) watcher.close();
    await this.refreshing;
    if (this.settling !== null) clearTimeout(this.settling); // what was under way may have wished for another look
  }

  /** Reads the files if they changed. One after the other. */
  refresh(): Promise<void> {
    this.refreshing = this.refreshing.then(() => this.readIfChanged());
    return this.refreshing;
  }

  /** A file's folder, since a file is replaced more often than written to. Where the system cannot, the poll remains. */
  private async watch(path: string): Promise<void> {
    const folder = (await isFolder(path)) ? path : dirname(path);
    try {
      const watcher = watch(folder, () => this.settle());
      watcher.on("error", (error: unknown) => this.cannotWatch(folder, error));
      this.watchers.push(watcher);
    } catch (error: unknown) {
      this.cannotWatch(folder, error);
    }
  }

  private cannotWatch(folder: string, error: unknown): void {
    const fields = { folder, reason: messageOf(error), interval_ms: this.options.intervalMs };
    this.options.log.warn(fields, "folder cannot be watched, only polled");
  }

  private settle(): void {
    if (this.settling !== null) clearTimeout(this.settling);
    this.settling = setTimeout(() => this.refresh(), SETTLE_MS);
  }

  private async readIfChanged(): Promise<void> {
    const before = await this.list();
    const mark = markOf(before);
    if (mark === this.seen) return;
    const result = await this.read(before);
    // What changed while it was read may be half of each: the next look takes it.
    if (markOf(await this.list()) !== mark) return this.settle();
    this.seen = mark;
    this.apply(result);
  }

  private apply(result: Loaded | Failed): void {
    const { self, log } = this.options;
    self.identityReloads.inc({ result: result.result });
    if (result.result !== "ok") {
      const { file, reason } = result;
      const inForce = this.version === 0 ? "none are in force" : "the former ones stay in force";
      log.error({ file, reason }, `Kubernetes objects could not be read; ${inForce}`);
      return;
    }
    this.replace(result.index);
    this.options.onRead?.(result.objects);
    for (const [kind, count] of Object.entries(result.counts)) self.identityObjects.set({ kind }, count);
    log.info(result.counts, "Kubernetes objects read");
  }

  private async read(files: readonly (ObjectFile | Failed)[]): Promise<Loaded | Failed> {
    const { maxBytes, rules } = this.options;
    const objects = noObjects();
    let left = maxBytes;
    let skipped = 0;
    for (const file of files) {
      if ("result" in file) return file;
      left -= file.bytes;
      if (left < 0) {
        const reason = `with it the files exceed identity.kubernetes.max_size, ${maxBytes} bytes`;
        return { result: "too_large", file: file.path, reason };
      }
      try {
        skipped += await readObjects(await readFile(file.path, "utf8"), objects);
      } catch (error: unknown) {
        const isOurs = error instanceof CollectorError;
        return { result: isOurs ? "malformed" : "unreadable", file: file.path, reason: messageOf(error) };
      }
    }
    const counts = Object.fromEntries(Object.entries(objects).map(([kind, { size }]) => [kind, size]));
    return { result: "ok", objects, index: new AddressIndex(objects, rules), counts: { ...counts, skipped } };
  }

  /** The files as they are now, in order; a fault in the place of one that is not there. */
  private async list(): Promise<(ObjectFile | Failed)[]> {
    const lists = await Promise.all(this.options.paths.map(listFiles));
    return lists.flat();
  }
}

interface Loaded {
  readonly result: "ok";
  readonly objects: Objects;
  readonly index: AddressIndex;
  readonly counts: Readonly<Record<string, number>>;
}

interface Failed {
  readonly result: Exclude<ReloadResult, "ok">;
  readonly file: string;
  readonly reason: string;
}

function markOf(files: readonly (ObjectFile | Failed)[]): string {
  return JSON.stringify(files);
}

async function listFiles(path: string): Promise<(ObjectFile | Failed)[]> {
  try {
    if (!(await isFolder(path))) return [await describe(path)];
    const names = (await readdir(path)).filter((name) => OBJECT_FILE.test(name)).sort();
    return await Promise.all(names.map((name) => describe(join(path, name))));
  } catch (error: unknown) {
    return [{ result: "unreadable", file: path, reason: messageOf(error) }];
  }
}

async function describe(path: string): Promise<ObjectFile> {
  const { ino, size, mtimeNs, ctimeNs } = await stat(path, { bigint: true });
  return { path, bytes: Number(size), mark: `${ino} ${mtimeNs} ${ctimeNs}` };
}

async function isFolder(path: string): Promise<boolean> {
  const found = await stat(path).catch(() => null);
  return found?.isDirectory() ?? false;
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
