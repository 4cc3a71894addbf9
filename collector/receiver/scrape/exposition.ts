// What is known of each scrape target, in Prometheus' text format 0.0.4: how old its last good reading is, and what its access loggers say of
// themselves. Nothing else tells of an entry that a proxy dropped before it was sent.

import { escapeValue } from "../../label-value.ts";
import type { ScrapeStatus } from "./target.ts";

/** How long a piece of text gets before it is handed on. */
const PIECE_LENGTH = 64 * 1024;

interface Family {
  readonly name: string;
  readonly kind: "counter" | "gauge";
  readonly help: string;
  /** "" for a target of which that is not known. */
  readonly lines: (name: string, labels: string, status: ScrapeStatus) => string;
}

export const TARGET_FAMILIES: readonly Family[] = [
  {
    name: "meshtally_target_last_scrape_timestamp_seconds",
    kind: "gauge",
    help: "When the last reading of a target that was counted ended, Unix time.",
    lines: (name, labels, { okAtMs }) => (okAtMs === 0 ? "" : `${name}{${labels}} ${okAtMs / 1000}\n`),
  },
  {
    name: "meshtally_target_access_log_entries_total",
    kind: "counter",
    help: "Access-log entries that a process took to send (written) or had no room for (dropped), by its own count since it started.",
    lines: (name, labels, { logsWritten, logsDropped }) =>
      logsWritten === null
        ? ""
        : `${name}{${labels},how="written"} ${logsWritten}\n${name}{${labels},how="dropped"} ${logsDropped ?? 0}\n`,
  },
];

/** Families that have a line, in pieces that end at line ends. */
export function* renderTargets(statuses: readonly ScrapeStatus[]): Generator<string> {
  for (const { name, kind, help, lines } of TARGET_FAMILIES) {
    let piece = "";
    let isBegun = false;
    for (const status of statuses) {
      const labels = `target="${escapeValue(status.target)}",proxy="${escapeValue(status.proxy ?? "")}"`;
      const text = lines(name, labels, status);
      if (text === "") continue;
      if (!isBegun) piece = `# HELP ${name} ${help}\n# TYPE ${name} ${kind}\n`;
      isBegun = true;
      piece += text;
      if (piece.length < PIECE_LENGTH) continue;
      yield piece;
      piece = "";
    }
    if (piece !== "") yield piece;
  }
}
