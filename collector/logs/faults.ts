// What keeps the store from working, by what the file system or DuckDB said: DuckDB quotes the system's words.

import type { LogFaultReason } from "../self.ts";

const REASONS: readonly (readonly [RegExp, LogFaultReason])[] = [
  [/no space left|file too large|quota exceeded|ENOSPC|EFBIG|EDQUOT/i, "disk_full"],
  [/read-only|permission denied|not permitted|EROFS|EACCES|EPERM/i, "read_only"],
  [/no such file|not a directory|ENOENT|ENOTDIR|is gone/i, "folder_gone"],
  [/not a valid DuckDB|read enough bytes|corrupt|checksum|serializ|table with name/i, "unreadable"],
];

export function faultReason(error: unknown): LogFaultReason {
  const text = messageOf(error);
  return REASONS.find(([pattern]) => pattern.test(text))?.[1] ?? "other";
}

/** Its first line: what follows are DuckDB's hints. */
export function messageOf(error: unknown): string {
  const text = error instanceof Error ? error.message : String(error);
  return (text.split("\n", 1)[0] as string).slice(0, 300);
}

/** The process that holds a database file, of the message that says so; null of any other. */
export function lockHolder(error: unknown): string | null {
  const text = messageOf(error);
  if (!text.includes("Could not set lock on file")) return null;
  return /PID (\d+)/.exec(text)?.[1] ?? "unknown";
}
