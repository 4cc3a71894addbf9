// The tables on the terminal: redrawn in place on a TTY; elsewhere only its first and its last state are printed.

import type { Graph } from "./graph.ts";
import { renderTable, renderTcpTable } from "./table.ts";

/** What of process.stdout is needed. */
export interface Terminal {
  readonly isTTY?: boolean;
  readonly columns?: number;
  write(text: string): unknown;
}

export class LiveTable {
  private readonly terminal: Terminal;
  /** What stands at the end of the terminal now and is overwritten next. */
  private drawn: string[] = [];
  private hasShown = false;

  constructor(terminal: Terminal) {
    this.terminal = terminal;
  }

  /** Whether a table with edges was shown yet. */
  get isShown(): boolean {
    return this.hasShown;
  }

  /** Shows the graph under a heading; `isLast` prints it in any case, and leaves it. */
  show(graph: Graph, heading: string, isLast = false): void {
    const { isTTY = false } = this.terminal;
    const table = renderTable(graph, this.width);
    const tcp = renderTcpTable(graph, this.width);
    const isFirst = !this.hasShown && table.length > 0;
    this.hasShown ||= table.length > 0;
    if (!isTTY && !isFirst && !isLast) return;
    const below = tcp.length === 0 ? [] : ["", ...tcp];
    this.draw([heading.slice(0, this.width), ...(table.length === 0 ? ["no requests yet"] : table), ...below, ""]);
    if (isLast) this.drawn = [];
  }

  /** Prints a line that stays, above the table. */
  note(line: string): void {
    const table = this.drawn;
    this.draw([line]);
    this.drawn = [];
    if (table.length > 0) this.draw(table);
  }

  /** Wider lines would wrap, and the count of lines to overwrite would be wrong. Some terminals say 0 for "unknown". */
  private get width(): number {
    const { isTTY = false, columns = 0 } = this.terminal;
    return isTTY && columns > 0 ? columns : Number.POSITIVE_INFINITY;
  }

  private draw(lines: string[]): void {
    const { isTTY = false } = this.terminal;
    // Up to the first drawn line, then erase to the end of the screen.
    const erase = isTTY && this.drawn.length > 0 ? `\x1b[${this.drawn.length}A\x1b[J` : "";
    this.terminal.write(`${erase}${lines.join("\n")}\n`);
    this.drawn = isTTY ? lines : [];
  }
}
