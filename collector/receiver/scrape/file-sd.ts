// Targets from files, as Prometheus' `file_sd_configs`: read at the start and whenever one changes. What cannot be read leaves that
// file's former targets in force, is counted, and told with file and reason.

import { readdir, readFile, stat } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { parse } from "yaml";
import { CollectorError } from "../../error.ts";
import type { DiscoveryReport } from "./discovery.ts";
import { readTargetGroups } from "./target-groups.ts";
import type { TargetSpec } from "./target-spec.ts";

const MAX_BYTES = 16 * 2 ** 20;

export interface FileSdOptions {
  /** Paths; the last part may have `*` for anything: "targets/*.json". */
  readonly files: readonly string[];
  /** How often it is looked whether they changed. */
  readonly intervalMs: number;
  readonly onChange: () => void;
  readonly report: DiscoveryReport;
}

interface Known {
  /** Different when the file was replaced or written to. */
  readonly mark: string;
  readonly wasRead: boolean;
  readonly specs: readonly TargetSpec[];
}

export class FileSd {
  private readonly known = new Map<string, Known>();
  /** Whether all folders could be looked into once. */
  private wasListed = false;
  private poll: NodeJS.Timeout | null = null;
  private refreshing: Promise<void> = Promise.resolve();

  constructor(private readonly options: FileSdOptions) {}

  get specs(): readonly TargetSpec[] {
    return [...this.known.values()].flatMap(({ specs }) => specs);
  }

  /** Whether each file was read once. */
  get isComplete(): boolean {
    if (this.options.files.length === 0) return true;
    return this.wasListed && [...this.known.values()].every(({ wasRead }) => wasRead);
  }

  /** Resolves when the files were read once, with or without success. */
  async start(): Promise<void> {
    if (this.options.files.length === 0) return;
    this.poll = setInterval(() => this.refresh(), this.options.intervalMs);
    await this.refresh();
  }

  async stop(): Promise<void> {
    if (this.poll !== null) clearInterval(this.poll);
    await this.refreshing;
  }

  /** Reads the files that changed, one after the other. */
  private refresh(): Promise<void> {
    this.refreshing = this.refreshing.then(async () => {
      if (await this.readChanged()) this.options.onChange();
    });
    return this.refreshing;
  }

  private async readChanged(): Promise<boolean> {
    let hasChanged = false;
    const files = await this.list();
    for (const file of files) hasChanged = (await this.readIfChanged(file)) || hasChanged;
    for (const file of this.known.keys()) {
      if (!files.includes(file)) hasChanged = this.known.delete(file);
    }
    return hasChanged;
  }

  private async readIfChanged(file: string): Promise<boolean> {
    const before = this.known.get(file);
    let mark = "";
    try {
      const { ino, size, mtimeNs } = await stat(file, { bigint: true });
      mark = `${ino} ${size} ${mtimeNs}`;
      if (mark === before?.mark) return false;
      if (size > MAX_BYTES) throw new CollectorError("limit_exceeded", `it is longer than ${MAX_BYTES} bytes`);
      const specs = readTargetGroups(parseFile(file, await readFile(file, "utf8")));
      this.known.set(file, { mark, wasRead: true, specs });
      this.options.report.count("file_sd", "ok");
      return true;
    } catch (error: unknown) {
      // What could be looked at is not read again before it changes.
      this.known.set(file, { mark, wasRead: before?.wasRead ?? false, specs: before?.specs ?? [] });
      this.options.report.fail("file_sd", file, error);
      return false;
    }
  }

  /** Files that paths with `*` match, and all others, there or not: without one, its targets of before stay. */
  private async list(): Promise<string[]> {
    const lists = await Promise.all(this.options.files.map((path) => this.match(path)));
    this.wasListed ||= lists.every(({ isListed }) => isListed);
    return [...new Set(lists.flatMap(({ files }) => files))];
  }

  private async match(path: string): Promise<{ readonly files: readonly string[]; readonly isListed: boolean }> {
    const name = basename(path);
    if (!name.includes("*")) return { files: [path], isListed: true };
    const folder = dirname(path);
    const pattern = new RegExp(`^${name.split("*").map(escapeRegex).join(".*")}$`);
    try {
      const names = (await readdir(folder)).filter((each) => pattern.test(each)).sort();
      return { files: names.map((each) => join(folder, each)), isListed: true };
    } catch (error: unknown) {
      this.options.report.fail("file_sd", folder, error);
      const known = [...this.known.keys()].filter((file) => dirname(file) === folder && pattern.test(basename(file)));
      return { files: known, isListed: false };
    }
  }
}

/** JSON, or YAML by the file's name. Throws SyntaxError, and the YAML library's own errors. */
function parseFile(file: string, text: string): unknown {
  try {
    return file.endsWith(".json") ? JSON.parse(text) : parse(text);
  } catch (error: unknown) {
    throw new CollectorError("message_malformed", error instanceof Error ? error.message : String(error), {
      cause: error,
    });
  }
}

function escapeRegex(text: string): string {
  return text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
}
