// Admission: in which cell a process life counts a label set, its own or one of the overflow, and how many of both may be held. What is decided
// for a label set stays so, for as long as anything of the proxy is there: else it would count twice.

import { Cell, type LifeCells, Series } from "./cell.ts";
import type { Expiry } from "./expiry.ts";
import { MARKS, withMark, withoutMark } from "./key.ts";
import { LabelSets } from "./label-sets.ts";
import { type Life, type ProxyLives, UNSTAMPED } from "./life.ts";
import type { MarkedCells } from "./marked.ts";
import type { Shape } from "./shape.ts";
import type { Slab } from "./slab.ts";

/** The share of a limit from which on room is to be made. */
const TIGHT = 0.75;

export interface TableLimits {
  /** Most label sets held, besides those of the overflow, which are few, and those that differ from one that is held in their mark alone. */
  readonly labelSets: number;
  /** Most cells held: label sets of process lives, besides those of the overflow. */
  readonly cells: number;
}

interface AdmissionOptions {
  readonly shape: Pick<Shape<never, never>, "index" | "overflowOf" | "mixedOverflowKey">;
  readonly limits: TableLimits;
  readonly expiry: Expiry;
  /** Of which totals are rows. */
  readonly rows: Slab;
  readonly marked: MarkedCells;
  /** Told when another cell of the proxy is to count, from now on, what the cell counted by itself. */
  readonly onAccount: (cell: Cell, account: Cell) => void;
}

export class Admission {
  private readonly labelSets = new LabelSets<Series>();
  /** Those of the overflow that were counted under. */
  readonly overflows: Series[] = [];
  /** The values of label sets with a mark. */
  private readonly markedValues = new Set<string>();
  /** Cells held: of overflow label sets, and of all others; with these, what is remembered as kept out (ProxyLives.keptOut). */
  private readonly held = { overflow: 0, others: 0 };

  constructor(private readonly options: AdmissionOptions) {}

  /** Label sets of process lives held. */
  get cellCount(): number {
    return this.held.overflow + this.held.others;
  }

  get series(): readonly Series[] {
    return this.labelSets.list;
  }

  get letGoCount(): number {
    return this.labelSets.letGoCount;
  }

  /** Whether little room is left for label sets, or for cells. */
  get isTight(): boolean {
    const { labelSets, cells } = this.options.limits;
    return this.series.length > TIGHT * labelSets || this.held.others > TIGHT * cells;
  }

  find(labelKey: string): Series | undefined {
    return this.labelSets.find(labelKey);
  }

  /** The string that is held for a label set that the life counted: its own, or that of the overflow which took it in. */
  heldKey(life: Life, labelKey: string): string {
    const cell = this.cellsOf(life).byKey.get(labelKey);
    return cell?.series.labelKey ?? this.inOverflow(life, this.options.shape.overflowOf(labelKey));
  }

  /** Lets go of the cells of a life. */
  release(life: Life): void {
    const { byKey } = this.cellsOf(life);
    for (const cell of byKey.values()) {
      this.held[kindOf(cell)]--;
      cell.series.cells--;
    }
    byKey.clear();
    this.forgetKeptOut(life.proxy);
  }

  /** Lets go of label sets that are over, and of which no process life that is held told: nobody can tell of the same requests again. */
  letGo(): readonly Series[] {
    const { expiry } = this.options;
    if (!expiry.isOn) return [];
    const gone = this.labelSets.letGo((series) => series.cells === 0 && !series.isOverflow && expiry.isOver(series));
    for (const { labelKey } of gone) this.markedValues.delete(withoutMark(labelKey)); // all of its marks go
    return gone;
  }

  /**
   * Whether the label set is one of its own to the proxy: it is held, or there is room for it. That is decided once, for as long as anything of
   * the proxy is there. All marks of the same values go the same way: they may tell of the same requests.
   */
  private isAdmitted(proxy: ProxyLives, labelKey: string): boolean {
    const values = withoutMark(labelKey);
    if (this.keptOutOf(proxy).has(values)) return false;
    const held = this.series.length - this.overflows.length;
    if (this.labelSets.find(labelKey) || held < this.options.limits.labelSets) return true;
    return this.labelSets.find(values) !== undefined || this.markedValues.has(values);
  }

  /** The label set over all proxies, held from now on. */
  seriesOf(labelKey: string): Series {
    const known = this.labelSets.find(labelKey);
    if (known) return known;
    const isOverflow = labelKey === this.options.shape.overflowOf(labelKey);
    const total = this.options.rows.allocate();
    const series = this.labelSets.add(
      (index) => new Series(this.options.expiry.now(), index, labelKey, isOverflow, total),
    );
    if (isOverflow) this.overflows.push(series);
    const values = withoutMark(labelKey);
    if (values !== labelKey) this.markedValues.add(values);
    return series;
  }

  /**
   * The cell in which the life counts that label set: its own, or that of the overflow; null when there is room for neither.
   * Which of the two is decided once and for all: a life that is closed takes no label set in any more.
   */
  cellFor(life: Life, labelKey: string): Cell | null {
    if (this.isShutOut(life)) return null;
    const cells = this.cellsOf(life);
    const overflowKey = this.options.shape.overflowOf(labelKey);
    if (labelKey === overflowKey) return this.addCell(life, labelKey); // the filter's own
    if (this.isAdmitted(life.proxy, labelKey)) {
      const needed = 1 + this.missingAccounts(life, labelKey).length;
      const hasRoom = this.held.others + needed <= this.options.limits.cells;
      if (hasRoom && !cells.isClosed) return this.addCell(life, labelKey);
      // Of the marks of one request's values none is in the overflow where another is not: two access logs may tell of it under either.
      const isAlike = life.startMs === UNSTAMPED && sameValues(cells.byKey, labelKey).length > 0;
      if (isAlike) return hasRoom ? this.addCell(life, labelKey) : null;
      if (!this.mayClose(life)) return null;
      cells.isClosed = true;
    } else if (!this.keepOut(life, labelKey)) {
      if (!this.mayClose(life)) return null;
      cells.isClosed = true;
    }
    cells.hasKeptOut = true;
    const key = this.inOverflow(life, overflowKey);
    return cells.byKey.get(key) ?? this.addCell(life, key);
  }

  private inOverflow({ proxy }: Life, overflowKey: string): string {
    return proxy.hasMixedOverflow ? this.options.shape.mixedOverflowKey : overflowKey;
  }

  /**
   * Where room may be made later, a label set that found none is remembered of its proxy, and goes to the overflow for as long as anything
   * of the proxy is there: its own label set would count the same requests again. False when there is no room to remember it.
   */
  private keepOut(life: Life, labelKey: string): boolean {
    if (!this.options.expiry.isOn || this.cellsOf(life).isClosed) return true;
    const keptOut = this.keptOutOf(life.proxy);
    const values = withoutMark(labelKey);
    if (keptOut.has(values)) return true;
    if (this.held.others >= this.options.limits.cells) return false;
    keptOut.add(values);
    this.held.others++;
    return true;
  }

  private forgetKeptOut(proxy: ProxyLives): void {
    const keptOut = this.keptOutOf(proxy);
    if (keptOut.size === 0) return; // fast: nearly all
    const lives = proxy.unstamped === null ? proxy.lives : [...proxy.lives, proxy.unstamped];
    const cells = lives.flatMap((life) => [...this.cellsOf(life).byKey.values()]);
    if (cells.some(({ series }) => series.isOverflow)) return;
    this.held.others -= keptOut.size;
    keptOut.clear();
  }

  private keptOutOf(proxy: ProxyLives): Set<string> {
    return proxy.keptOut[this.options.shape.index] as Set<string>;
  }

  /**
   * An entry that names no life may tell of a request which the stats of a stamped life tell of too (a proxy with the filter
   * whose logger leaves the observation out). Adding the two would count it twice. So within a proxy the unstamped entries are a second
   * reading of all its stamped lives together: per label set, and over all marks of its values (marked.ts).
   */
  private addCell(life: Life, labelKey: string): Cell {
    const { lives, unstamped } = life.proxy;
    const accounts = this.missingAccounts(life, labelKey);
    const cell = this.holdCell(life, labelKey);
    if (unstamped === null) return cell;
    for (const account of accounts) this.holdCell(unstamped, account);
    if (life === unstamped) for (const stamped of lives) this.takeIn(stamped, unstamped, labelKey);
    else cell.account = this.cellsOf(unstamped).byKey.get(labelKey) ?? null;
    return cell;
  }

  /** Label sets of which the proxy's unstamped life needs a cell, once `life` has one of `labelKey`. */
  private missingAccounts(life: Life, labelKey: string): string[] {
    const { lives, unstamped } = life.proxy;
    if (unstamped === null) return []; // fast: most proxies
    const { byKey } = this.cellsOf(unstamped);
    const isStamped = life !== unstamped;
    if (isStamped && sameValues(byKey, labelKey).length === 0) return [];
    const told = isStamped ? [labelKey] : lives.flatMap((stamped) => this.keysAlike(stamped, labelKey));
    return [...new Set(told)].filter((key) => !byKey.has(key) && (isStamped || key !== labelKey));
  }

  private keysAlike(life: Life, labelKey: string): string[] {
    return sameValues(this.cellsOf(life).byKey, labelKey).map(({ series }) => series.labelKey);
  }

  private holdCell(life: Life, labelKey: string): Cell {
    const { byKey } = this.cellsOf(life);
    const cell = new Cell(this.seriesOf(labelKey), null);
    byKey.set(labelKey, cell);
    this.hold(cell);
    if (life.startMs === UNSTAMPED) this.options.marked.join(sameValues(byKey, labelKey));
    return cell;
  }

  /** What the stamped life counted by itself under these values, the unstamped one counts from now on. */
  private takeIn(stamped: Life, unstamped: Life, labelKey: string): void {
    for (const cell of sameValues(this.cellsOf(stamped).byKey, labelKey)) {
      if (cell.account !== null) continue;
      const account = this.cellsOf(unstamped).byKey.get(cell.series.labelKey) as Cell;
      cell.account = account;
      this.options.onAccount(cell, account);
    }
  }

  /** A cell that was held before the collector restarted; limits were heeded then. */
  restoreCell(life: Life, labelKey: string, account: Cell | null): Cell {
    const cells = this.cellsOf(life);
    const cell = cells.byKey.get(labelKey) ?? new Cell(this.seriesOf(labelKey), account);
    cell.account = account; // of a proxy that was told anew
    if (!cells.byKey.has(labelKey)) this.hold(cell);
    cells.byKey.set(labelKey, cell);
    return cell;
  }

  /** To be called once all cells of an unstamped life are restored: lets those that differ in their mark alone count together. */
  restoreMarked(life: Life): void {
    const { byKey } = this.cellsOf(life);
    for (const { alike, series } of byKey.values()) {
      if (alike === null) this.options.marked.join(sameValues(byKey, series.labelKey));
    }
  }

  private cellsOf(life: Life): LifeCells {
    return life.cells[this.options.shape.index] as LifeCells;
  }

  private hold(cell: Cell): void {
    this.held[kindOf(cell)]++;
    cell.series.cells++;
  }

  /**
   * Entries that name no life and the stamped lives of the same proxy tell of the same requests (`addCell`), so they must put
   * them under the same label set. So a life may be closed only where nobody else speaks of its requests.
   */
  private mayClose(life: Life): boolean {
    const others = life.startMs === UNSTAMPED ? life.proxy.lives : [life.proxy.unstamped];
    return others.every((other) => !other || this.cellsOf(other).byKey.size === 0);
  }

  /** Whether another life that speaks of the same requests was closed (`mayClose`): then this one is not counted. */
  private isShutOut(life: Life): boolean {
    const { lives, unstamped } = life.proxy;
    if (life.startMs === UNSTAMPED) return lives.some((other) => this.cellsOf(other).isClosed);
    return unstamped !== null && this.cellsOf(unstamped).isClosed;
  }
}

function kindOf({ series }: Cell): "overflow" | "others" {
  return series.isOverflow ? "overflow" : "others";
}

/** What is held of the label sets that differ from this one in their mark at most. */
function sameValues<Held>(byKey: ReadonlyMap<string, Held>, labelKey: string): Held[] {
  const values = withoutMark(labelKey);
  return [null, ...MARKS].flatMap((mark) => byKey.get(withMark(values, mark)) ?? []);
}
