// Histories: what happens to a mesh and its collector, as plain data, so that one can be run again, printed, and cut shorter.

import { random } from "../property/random.ts";

/** How a proxy tells of its traffic. */
export interface Telling {
  /** Has the filter, which keeps stats. */
  readonly keepsStats: boolean;
  /** Its stats are read. */
  readonly isScraped: boolean;
  /** It has an access logger. */
  readonly logs: boolean;
  /** Its stats come to the metrics service as it flushes them, over so many streams, with counters in that form; null: they do not. */
  readonly streams: { readonly sinks: number; readonly areDeltas: boolean } | null;
  /** What an entry names: the process life (and the connection in it), or for connections the stream alone, or neither. */
  readonly names: "life" | "stream" | "nothing";
}

/** What the collector has room for. */
export interface Room {
  readonly proxies: number;
  readonly labelSets: number;
  readonly cells: number;
  readonly connections: number;
}

/** How an entry reaches the collector; null: it is lost. */
export interface Delivery {
  readonly delayMs: number;
  /** Entries of connections may come twice. */
  readonly isTwice: boolean;
  /** Names a start that is far too large, as while Envoy restarts hot. */
  readonly isFuture: boolean;
}

/** Numbers of proxies, label sets and connections are taken modulo what there is, so that a history stays one when it is cut. */
export type Action =
  | {
      readonly do: "request";
      readonly proxy: number;
      readonly label: number;
      readonly durationMs: number;
      readonly requestBytes: number;
      readonly responseBytes: number;
      readonly log: Delivery | null;
    }
  | { readonly do: "open"; readonly proxy: number; readonly label: number; readonly log: Delivery | null }
  | {
      readonly do: "pass";
      readonly proxy: number;
      readonly connection: number;
      readonly sent: number;
      readonly received: number;
      /** What comes from now on has other labels. */
      readonly isLate: boolean;
      readonly isEnd: boolean;
      readonly log: Delivery | null;
    }
  /** Histograms are shown as they are now; and streamed, over each sink so much later, in two parts if not in one. */
  | { readonly do: "flush"; readonly proxy: number; readonly delayMs: readonly number[]; readonly isSplit: boolean }
  /** Stats are read now, and are taken in later, after those read before; again so much later, if not null. */
  | {
      readonly do: "scrape";
      readonly proxy: number;
      readonly delayMs: number;
      readonly againMs: number | null;
      readonly isFuture: boolean;
    }
  /** The wasm VM is replaced: counters and histograms begin anew. */
  | { readonly do: "replace_vm"; readonly proxy: number }
  /** `POST /reset_counters`: histograms stay. */
  | { readonly do: "reset_counters"; readonly proxy: number }
  /** The process ends and another begins, whose clock is so much ahead; in good order what it held is told and read first. */
  | { readonly do: "restart"; readonly proxy: number; readonly clockMs: number; readonly inOrder: boolean }
  | { readonly do: "wait"; readonly ms: number }
  /** The collector's clock is set forward. */
  | { readonly do: "set_clock"; readonly ms: number }
  | { readonly do: "retire" }
  /** The collector's state is saved, so many pieces of it; what is left comes with the next of these. */
  | { readonly do: "save"; readonly pieces: number }
  /** The collector ends, saves all if it is not killed, and another begins after a time, which divides proxies among so many threads. */
  | {
      readonly do: "restart_collector";
      readonly isKilled: boolean;
      readonly downMs: number;
      readonly shards: number;
    };

export interface History {
  readonly seed: number;
  readonly tellings: readonly Telling[];
  readonly room: Room;
  /** Label sets say of which proxy they are (`metrics.pod_labels`). */
  readonly hasPods: boolean;
  readonly actions: readonly Action[];
}

/** How long superseded lives wait, and proxies are silent before they make room. Nothing is under way for longer. */
export const RETIRE_AFTER_MS = 600_000;
const HOUR_MS = 3_600_000;
const AMPLE: Room = { proxies: 1000, labelSets: 100, cells: 100_000, connections: 100_000 };

const FULL: Telling = { keepsStats: true, isScraped: true, logs: true, streams: null, names: "life" };
const STREAMED: Telling = { ...FULL, isScraped: false, logs: false, streams: { sinks: 1, areDeltas: false } };
const TELLINGS: readonly Telling[] = [
  FULL,
  FULL,
  { ...FULL, logs: false },
  { ...FULL, isScraped: false },
  { ...FULL, names: "stream" },
  { ...FULL, names: "nothing" },
  { keepsStats: false, isScraped: false, logs: true, streams: null, names: "stream" },
  { keepsStats: false, isScraped: false, logs: true, streams: null, names: "nothing" },
  STREAMED,
  STREAMED,
  { ...STREAMED, streams: { sinks: 2, areDeltas: true } },
  { ...FULL, streams: { sinks: 2, areDeltas: false } },
];

/** The history of a seed: always the same. */
export function historyOf(seed: number): History {
  const dice = new Dice(seed);
  const room = roomOf(dice);
  const evicts = room.proxies < AMPLE.proxies;
  const tellings = Array.from({ length: evicts ? 5 : 1 + dice.pick(3) }, () => dice.of(TELLINGS));
  const isOrdered = room.connections < AMPLE.connections;
  const trouble: Trouble = {
    shards: room === AMPLE ? 3 : 1,
    loses: dice.chance(0.5),
    future: dice.chance(0.2),
    clocks: dice.chance(0.4),
    evicts,
    isOrdered,
  };
  const length = 20 + dice.pick(60);
  const hasPods = seed % 3 === 0;
  return { seed, tellings, room, hasPods, actions: Array.from({ length }, () => actionOf(dice, trouble)) };
}

function roomOf(dice: Dice): Room {
  switch (dice.pick(8)) {
    case 0:
      return { ...AMPLE, labelSets: 2 };
    case 1:
      return { ...AMPLE, cells: 4 + dice.pick(12) };
    case 2:
      return { ...AMPLE, proxies: 3 };
    case 3:
      return { ...AMPLE, connections: 2 };
    default:
      return AMPLE;
  }
}

interface Trouble {
  /** Entries get lost, and processes end unread. */
  readonly loses: boolean;
  readonly future: boolean;
  readonly clocks: boolean;
  readonly evicts: boolean;
  /** Entries come at once: of connections that ended as few are remembered as there is room for. */
  readonly isOrdered: boolean;
  /** Most threads of the collector. */
  readonly shards: number;
}

function actionOf(dice: Dice, trouble: Trouble): Action {
  const proxy = dice.pick(60);
  const chosen = dice.pick(100);
  if (chosen < 6) return { do: "save", pieces: 1 + dice.pick(dice.chance(0.5) ? 4 : 40) };
  if (chosen < 9) return restartCollector(dice, trouble);
  if (chosen < 33) return request(dice, proxy, trouble);
  if (chosen < 38) return { do: "open", proxy, label: dice.pick(6), log: delivery(dice, trouble) };
  if (chosen < 52) return pass(dice, proxy, trouble);
  if (chosen < 60) return { do: "flush", proxy, delayMs: [delay(dice), delay(dice)], isSplit: dice.chance(0.5) };
  if (chosen < 76) return scrape(dice, proxy, trouble);
  if (chosen < 78) return { do: "replace_vm", proxy };
  if (chosen < 79) return { do: "reset_counters", proxy };
  if (chosen < 84) return restart(dice, proxy, trouble);
  if (chosen < 87) return { do: "retire" };
  if (chosen < 89 && trouble.clocks) return { do: "set_clock", ms: dice.pick(HOUR_MS) };
  return { do: "wait", ms: dice.chance(0.15) ? RETIRE_AFTER_MS * (1 + dice.pick(2)) : dice.pick(20_000) };
}

function request(dice: Dice, proxy: number, trouble: Trouble): Action {
  return {
    do: "request",
    proxy,
    label: dice.pick(12),
    durationMs: dice.chance(0.1) ? -1 : dice.pick(3000),
    requestBytes: dice.pick(200_000),
    responseBytes: dice.pick(5),
    log: delivery(dice, trouble),
  };
}

function pass(dice: Dice, proxy: number, trouble: Trouble): Action {
  return {
    do: "pass",
    proxy,
    connection: dice.pick(60),
    sent: dice.pick(2000),
    received: dice.pick(3),
    isLate: dice.chance(0.2),
    isEnd: dice.chance(0.4),
    log: delivery(dice, trouble),
  };
}

function scrape(dice: Dice, proxy: number, { future }: Trouble): Action {
  const againMs = dice.chance(0.3) ? delay(dice) : null;
  return { do: "scrape", proxy, delayMs: delay(dice), againMs, isFuture: future && dice.chance(0.2) };
}

function restart(dice: Dice, proxy: number, { clocks, loses }: Trouble): Action {
  const clockMs = clocks ? dice.pick(30_000) - dice.pick(2) * dice.pick(HOUR_MS) : 0;
  return { do: "restart", proxy, clockMs, inOrder: !loses || dice.chance(0.3) };
}

function restartCollector(dice: Dice, { shards }: Trouble): Action {
  const downMs = dice.chance(0.5) ? 0 : dice.pick(60_000);
  return { do: "restart_collector", isKilled: dice.chance(0.7), downMs, shards: 1 + dice.pick(shards) };
}

function delivery(dice: Dice, { loses, future, isOrdered }: Trouble): Delivery | null {
  if (loses && dice.chance(0.25)) return null;
  if (isOrdered) return { delayMs: 0, isTwice: false, isFuture: false };
  return { delayMs: delay(dice), isTwice: dice.chance(0.2), isFuture: future && dice.chance(0.2) };
}

/** Less than the grace, else what is late is rightly refused. */
function delay(dice: Dice): number {
  return dice.chance(0.6) ? 0 : dice.pick(RETIRE_AFTER_MS / 2);
}

class Dice {
  private readonly next: () => number;

  constructor(seed: number) {
    this.next = random(seed);
  }

  /** A whole number from 0 to below. */
  pick(below: number): number {
    return Math.floor(this.next() * below);
  }

  chance(share: number): boolean {
    return this.next() < share;
  }

  of<Each>(all: readonly Each[]): Each {
    return all[this.pick(all.length)] as Each;
  }
}
