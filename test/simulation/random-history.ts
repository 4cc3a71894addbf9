// Random histories: of each seed one, always the same.

import { random } from "../property/random.ts";
import {
  type Action,
  type Conditions,
  type Deliveries,
  type Delivery,
  type History,
  IN_ORDER,
  type Names,
  RETIRE_AFTER_MS,
  type Room,
  type Telling,
} from "./history.ts";

const HOUR_MS = 3_600_000;
const AMPLE: Room = { proxies: 1000, labelSets: 100, cells: 100_000, connections: 100_000, expireAfterMs: 0 };
/** Longer than anything is under way. */
const EXPIRE_AFTER_MS = 2 * RETIRE_AFTER_MS;
/** So many actions long the same is called. */
const CHURN_ACTIONS = 20;

const als = (names: Names | null, otlp: Names | null = null) => ({ als: names, otlp });
const SINK = { sinks: 1, areDeltas: false };
const FULL: Telling = { keepsStats: true, isScraped: true, streams: null, names: als("life") };
const STREAMED: Telling = { ...FULL, isScraped: false, streams: SINK, names: als(null) };
const WITHOUT_FILTER: Telling = { keepsStats: false, isScraped: false, streams: null, names: als("stream") };
const TELLINGS: readonly Telling[] = [
  FULL,
  FULL,
  { ...FULL, streams: SINK },
  { ...FULL, streams: SINK, isScraped: false },
  { ...FULL, names: als(null) },
  { ...FULL, isScraped: false },
  { ...FULL, names: als("stream") },
  { ...FULL, names: als("nothing") },
  { ...FULL, streams: SINK, names: als("life", "life") },
  { ...FULL, names: als("life", "stream") },
  { ...FULL, names: als("stream", "life") },
  { ...FULL, isScraped: false, names: als("stream", "nothing") },
  STREAMED,
  STREAMED,
  { ...STREAMED, streams: { sinks: 2, areDeltas: true } },
  { ...FULL, streams: { sinks: 2, areDeltas: false } },
  WITHOUT_FILTER,
  { ...WITHOUT_FILTER, names: als("nothing") },
  { ...WITHOUT_FILTER, names: als("stream", "stream") },
  { ...WITHOUT_FILTER, names: als(null, "nothing") },
];

export function historyOf(seed: number): History {
  const dice = new Dice(seed);
  const room = roomOf(dice);
  const evicts = room.proxies < AMPLE.proxies;
  const tellings = Array.from({ length: evicts ? 5 : 1 + dice.pick(3) }, () => dice.of(TELLINGS));
  const isOrdered = room.connections < AMPLE.connections;
  const conditions: Conditions = {
    hasPods: dice.chance(0.3),
    keepsSome: dice.chance(0.3),
    hasMarks: dice.chance(0.5),
    sharesId: !evicts && dice.chance(0.15),
  };
  const trouble: Trouble = {
    shards: evicts || isOrdered ? 1 : 3,
    expires: room.expireAfterMs > 0,
    loses: dice.chance(0.5),
    future: dice.chance(0.2),
    clocks: dice.chance(0.4),
    evicts,
    isOrdered,
    bares: dice.chance(0.3),
    marks: conditions.hasMarks,
  };
  const length = trouble.expires ? 60 + dice.pick(120) : 20 + dice.pick(60);
  const actions = Array.from({ length }, (_, at) =>
    trouble.expires ? churn(dice, trouble, at) : actionOf(dice, trouble),
  );
  return { seed, tellings, room, conditions, actions };
}

function roomOf(dice: Dice): Room {
  return { ...limitsOf(dice), expireAfterMs: dice.chance(0.4) ? EXPIRE_AFTER_MS : 0 };
}

function limitsOf(dice: Dice): Room {
  switch (dice.pick(8)) {
    case 0:
      return { ...AMPLE, labelSets: dice.pick(4) };
    case 1:
      return { ...AMPLE, cells: dice.pick(12) };
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
  /** Some entries name no life though others do. */
  readonly bares: boolean;
  /** Entries that name no life have marks. */
  readonly marks: boolean;
  /** Time passes in which label sets expire. */
  readonly expires: boolean;
  /** Most threads of the collector. */
  readonly shards: number;
}

function actionOf(dice: Dice, trouble: Trouble): Action {
  const proxy = dice.pick(60);
  const chosen = dice.pick(100);
  if (chosen < 6) return { do: "save", pieces: 1 + dice.pick(dice.chance(0.5) ? 4 : 40) };
  if (chosen < 9) return restartCollector(dice, trouble);
  if (chosen < 33) return request(dice, proxy, trouble);
  if (chosen < 38) return { do: "open", proxy, label: dice.pick(6), log: deliveries(dice, trouble) };
  if (chosen < 52) return pass(dice, proxy, trouble);
  if (chosen < 60) return flush(dice, proxy, trouble);
  if (chosen < 76) return scrape(dice, proxy, trouble);
  if (chosen < 78) return { do: "replace_vm", proxy };
  if (chosen < 79) return { do: "reset_counters", proxy };
  if (chosen < 84) return restart(dice, proxy, trouble);
  if (chosen < 87) return { do: "retire" };
  if (chosen < 89 && trouble.clocks) return { do: "set_clock", ms: dice.pick(HOUR_MS) };
  return { do: "wait", ms: dice.chance(0.15) ? RETIRE_AFTER_MS * (1 + dice.pick(2)) : dice.pick(20_000) };
}

/** What is called changes in the course of time, processes with it, and what was called before expires. */
function churn(dice: Dice, trouble: Trouble, at: number): Action {
  const proxy = dice.pick(60);
  const chosen = dice.pick(100);
  if (chosen < 6) return restart(dice, proxy, trouble);
  if (chosen < 14) return { do: "wait", ms: dice.pick(4 * EXPIRE_AFTER_MS) };
  if (chosen < 22) return { do: "save", pieces: 100 };
  const action = actionOf(dice, trouble);
  const age = Math.floor(at / CHURN_ACTIONS);
  return action.do === "request" || action.do === "open" ? { ...action, label: age + dice.pick(2) } : action;
}

function request(dice: Dice, proxy: number, trouble: Trouble): Action {
  return {
    do: "request",
    proxy,
    label: dice.pick(12),
    durationMs: dice.chance(0.1) ? -1 : dice.pick(3000),
    requestBytes: dice.pick(200_000),
    responseBytes: dice.pick(5),
    log: deliveries(dice, trouble),
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
    log: deliveries(dice, trouble),
  };
}

function flush(dice: Dice, proxy: number, { loses }: Trouble): Action {
  const delayMs = [delay(dice), delay(dice)];
  return { do: "flush", proxy, delayMs, isSplit: dice.chance(0.5), isLost: loses && dice.chance(0.2) };
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

function deliveries(dice: Dice, trouble: Trouble): Deliveries {
  return { als: delivery(dice, trouble), otlp: delivery(dice, trouble) };
}

function delivery(dice: Dice, { loses, future, isOrdered, bares, marks }: Trouble): Delivery | null {
  if (loses && dice.chance(0.25)) return null;
  const isBare = bares && dice.chance(0.3);
  const mark = marks ? dice.of([null, "?", "+"] as const) : null;
  if (isOrdered) return { ...IN_ORDER, isBare, mark };
  return { delayMs: delay(dice), isTwice: dice.chance(0.2), isFuture: future && dice.chance(0.2), isBare, mark };
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
