// The world of a history: proxies that count, ways on which what they tell is late or lost, and a collector that is checked after each step.

import { Flush } from "../../collector/record/from-families.ts";
import type { AccessRecord, ConnectionRecord, LogWay, StatsReport } from "../../collector/record/record.ts";
import { withMark } from "../../collector/series/key.ts";
import { Checks } from "./checks.ts";
import { type Action, type Delivery, type History, IN_ORDER, type Telling } from "./history.ts";
import { type How, Oracle, type Shown } from "./oracle.ts";
import { Connection, HTTP_KEYS, LATE_KEY, ProcessLife, SHAPES, TCP_KEYS, type Told } from "./proxy.ts";
import { Subject } from "./subject.ts";

type Act<Kind extends Action["do"]> = Extract<Action, { do: Kind }>;

interface Message {
  readonly atMs: number;
  /** Whether the collector waits for it: then it goes with it. */
  readonly isAnswer: boolean;
  readonly take: () => void;
}

/** What a proxy's process streams to, and when the last message of each comes. */
type Streams = readonly { untilMs: number }[];
const newStreams = (): Streams => [{ untilMs: 0 }, { untilMs: 0 }];

const WAYS: readonly LogWay[] = ["als", "otlp"];

/** Between the two messages of a flush. */
const SPLIT_MS = 5000;

/** Runs it. Throws at the first step after which something is shown that must not be. */
export function run({ tellings, room, conditions, actions }: History): void {
  const world = new World(tellings, new Subject(room, conditions), room.expireAfterMs);
  for (const action of actions) world.step(action);
  world.settle();
}

class World {
  private readonly oracle = new Oracle();
  private readonly lives: ProcessLife[];
  private readonly targets: number[];
  private readonly streams: Streams[];
  private nextFlush = 1;
  private readonly starts = new Set<number>();
  private readonly checks: Checks;
  private queue: Message[] = [];
  private nextConnection = 0;
  /** Whether the collector was told anything since it was checked. */
  private isTouched = false;

  constructor(
    private readonly tellings: readonly Telling[],
    private readonly subject: Subject,
    private readonly expireAfterMs: number,
  ) {
    this.checks = new Checks(subject, this.oracle, expireAfterMs);
    this.lives = tellings.map((_, proxy) => this.begin(proxy, 0));
    this.targets = tellings.map(() => 0);
    this.streams = tellings.map(newStreams);
    subject.finishSave(this.oracle);
  }

  step(action: Action): void {
    this.act(action);
    this.deliver(this.subject.clock.steadyMs);
    this.subject.tick();
    this.checks.forgetLetGo();
    if (this.isTouched) this.checks.run();
    this.isTouched = false;
  }

  /** Connections end, all processes are read once more, and all that is under way arrives: then each total has to be the truth where the oracle says so. */
  settle(): void {
    for (const proxy of this.lives.keys()) this.wind(proxy);
    this.deliver(Number.POSITIVE_INFINITY);
    this.checks.run();
    this.subject.finishSave(this.oracle);
    this.checks.end();
  }

  private act(action: Action): void {
    switch (action.do) {
      case "request":
        this.request(action);
        break;
      case "open":
        this.open(action);
        break;
      case "pass":
        this.pass(action);
        break;
      case "flush":
        this.flush(this.at(action.proxy), action);
        break;
      case "scrape":
        this.scrape(this.at(action.proxy), action);
        break;
      case "replace_vm":
        this.replaceVm(this.at(action.proxy));
        break;
      case "reset_counters":
        for (const told of this.life(action.proxy).all()) told.setBack("counters");
        break;
      case "restart":
        this.restart(action);
        break;
      case "wait":
        this.wait(action.ms);
        break;
      case "set_clock":
        this.subject.clock.aheadMs += action.ms;
        break;
      case "retire":
        this.subject.retireSuperseded();
        break;
      case "save":
        this.subject.save(action.pieces, this.oracle);
        this.isTouched = true;
        break;
      case "restart_collector":
        this.restartCollector(action);
        break;
    }
  }

  private request({ proxy, label, log, ...sizes }: Act<"request">): void {
    const life = this.life(proxy);
    const labelKey = HTTP_KEYS[label % HTTP_KEYS.length] as string;
    const told = life.of("http", labelKey);
    const { durationMs, requestBytes, responseBytes } = sizes;
    const record = { proxy: life.proxy, lifeMs: 0, labelKey, requests: 1, durationMs, requestBytes, responseBytes };
    const [shape] = SHAPES;
    const gained = new Float64Array(shape.width);
    shape.fill(gained, record);
    told.count(gained);
    told.entries++;
    for (const way of WAYS) this.logRequest(proxy, life, told, record, way, log[way]);
  }

  private logRequest(
    proxy: number,
    life: ProcessLife,
    told: Told,
    record: AccessRecord,
    way: LogWay,
    log: Delivery | null,
  ): void {
    const names = this.telling(proxy).names[way];
    if (names === null || log === null) return;
    const lifeMs = names === "life" && !log.isBare ? stamp(life, log) : 0;
    const labelKey = lifeMs === 0 ? withMark(record.labelKey, log.mark) : record.labelKey;
    const how: How = `${lifeMs === life.startMs ? "stamped" : "unstamped"} ${way}`;
    this.send(log.delayMs, () => {
      if (this.subject.observe({ ...record, lifeMs, labelKey }, way)) this.oracle.readEntry(told, how);
    });
  }

  private open({ proxy, label, log }: Act<"open">): void {
    const life = this.life(proxy);
    const connection = new Connection(this.nextConnection++, TCP_KEYS[label % TCP_KEYS.length] as string);
    life.open.push(connection);
    life.connections.push(connection);
    this.count(life, connection, 0, [1, 0, 30, 0]);
    for (const way of WAYS) this.log(proxy, life, connection, way, log[way]);
  }

  private pass({ proxy, connection: index, sent, received, isLate, isEnd, log }: Act<"pass">): void {
    const life = this.life(proxy);
    const connection = life.open[index % life.open.length];
    if (!connection) return;
    const { parts } = connection;
    const { names } = this.telling(proxy);
    const isFiltersAlone = WAYS.every((way) => names[way] === null || (names[way] === "life" && !log[way]?.isBare));
    const maySplit = parts.length === 1 && isFiltersAlone; // only the filter splits a connection
    if (isLate && maySplit) parts.push({ labelKey: LATE_KEY, counts: [0, 0, 0, 0] });
    this.count(life, connection, parts.length - 1, [0, 0, sent, received]);
    if (isEnd) this.end(life, connection);
    for (const way of WAYS) this.log(proxy, life, connection, way, log[way]);
  }

  private end(life: ProcessLife, connection: Connection): void {
    life.open.splice(life.open.indexOf(connection), 1);
    this.count(life, connection, 0, [0, 1, 0, 0]);
    connection.isOver = true;
  }

  private count(life: ProcessLife, connection: Connection, part: number, gained: readonly number[]): void {
    const { labelKey, counts } = connection.parts[part] as Connection["parts"][number];
    for (const [field, gain] of gained.entries()) counts[field] = (counts[field] as number) + gain;
    connection.version++;
    life.of("tcp", labelKey).count(gained);
  }

  private log(proxy: number, life: ProcessLife, connection: Connection, way: LogWay, log: Delivery | null): void {
    const usual = this.telling(proxy).names[way];
    if (usual === null || log === null) return;
    const names = usual === "life" && log.isBare ? "stream" : usual;
    const record: ConnectionRecord = connection.record(life.proxy, life.startMs, stamp(life, log), names, log.mark);
    const { version } = connection;
    const how: How = `${record.lifeMs === life.startMs ? "stamped" : "unstamped"} ${names === "nothing" ? way : "both"}`;
    const take = () => {
      if (this.subject.observeConnection(record, way)) this.oracle.readConnection(connection, version, how);
    };
    this.send(log.delayMs, take);
    // An entry that nothing tells from others would count twice.
    if (log.isTwice && names !== "nothing") this.send(log.delayMs + 1000, take);
  }

  private flush(proxy: number, how: Omit<Act<"flush">, "do" | "proxy">): void {
    const life = this.lives[proxy] as ProcessLife;
    for (const told of life.all()) told.flush();
    const { keepsStats, streams } = this.tellings[proxy] as Telling;
    if (!keepsStats || streams === null) return;
    const all = life.all();
    const stats = all.flatMap((told) => told.stream(streams.areDeltas));
    const shown = all.map((told) => ({ told, flush: told.flushes, version: told.version }));
    if (how.isLost) return;
    const timeMs = this.nextFlush++;
    for (const [sink, stream] of (this.streams[proxy] as Streams).slice(0, streams.sinks).entries()) {
      const { steadyMs } = this.subject.clock;
      const firstMs = Math.max(steadyMs + (how.delayMs[sink] ?? 0), stream.untilMs); // a stream's messages come one after the other
      const lastMs = firstMs + (how.isSplit ? SPLIT_MS : 0);
      stream.untilMs = lastMs;
      const half = how.isSplit ? Math.ceil(stats.length / 2) : stats.length;
      let isTaken = true;
      const take = (part: typeof stats) => () => {
        const flush = new Flush(timeMs);
        flush.stats.push(...part.map(({ stat }) => stat));
        flush.numbers.push(...part.flatMap(({ numbers }) => numbers));
        isTaken = this.subject.stream(stream, life, flush, streams.areDeltas) && isTaken;
      };
      this.send(firstMs - steadyMs, take(stats.slice(0, half)), true);
      if (half < stats.length) this.send(lastMs - steadyMs, take(stats.slice(half)), true);
      const told = () => {
        if (isTaken) for (const { told, flush, version } of shown) this.oracle.readFlush(told, flush, version);
      };
      this.send(lastMs - steadyMs, told, true);
    }
  }

  private scrape(proxy: number, how: Omit<Act<"scrape">, "do" | "proxy">): void {
    const { keepsStats, isScraped } = this.tellings[proxy] as Telling;
    if (!keepsStats || !isScraped) return;
    const life = this.lives[proxy] as ProcessLife;
    const report = life.report();
    if (how.isFuture) this.subject.reportFuture(report);
    const shown = this.oracle.look(life);
    const { steadyMs } = this.subject.clock;
    const atMs = Math.max(steadyMs + how.delayMs, this.targets[proxy] as number);
    this.targets[proxy] = atMs; // a target's readings come one after the other
    this.send(atMs - steadyMs, () => this.takeReport(proxy, report, shown, how.againMs), true);
  }

  private takeReport(proxy: number, report: StatsReport, shown: readonly Shown[], againMs: number | null): void {
    const cumulative = this.subject.accumulate(proxy, report);
    this.oracle.readStats(shown, this.subject.report(cumulative) === "ok");
    if (againMs !== null) this.send(againMs, () => this.subject.report(cumulative), true);
  }

  /** Its connections end with it: an old VM goes when its last one is closed. */
  private replaceVm(proxy: number): void {
    const life = this.lives[proxy] as ProcessLife;
    for (const connection of [...life.open]) this.end(life, connection);
    for (const told of life.all()) told.setBack("all");
  }

  private restart({ proxy: index, clockMs, inOrder }: Act<"restart">): void {
    const proxy = this.at(index);
    if (inOrder) this.wind(proxy);
    this.wait(1);
    const life = this.lives[proxy] as ProcessLife;
    for (const stream of this.streams[proxy] as Streams) this.subject.leave(stream, life);
    this.streams[proxy] = newStreams();
    this.lives[proxy] = this.begin(proxy, clockMs);
  }

  /** A process comes to its end as it should: it says what it has, and is read. */
  private wind(proxy: number): void {
    const life = this.lives[proxy] as ProcessLife;
    for (const connection of [...life.open]) {
      this.end(life, connection);
      for (const way of WAYS) this.log(proxy, life, connection, way, IN_ORDER);
    }
    this.flush(proxy, { delayMs: [], isSplit: false, isLost: false });
    this.scrape(proxy, { delayMs: 0, againMs: null, isFuture: false });
  }

  private restartCollector({ isKilled, downMs, shards }: Act<"restart_collector">): void {
    const { clock } = this.subject;
    if (!isKilled) this.subject.finishSave(this.oracle);
    clock.steadyMs += downMs;
    this.queue = this.queue.filter(({ atMs, isAnswer }) => !isAnswer && atMs >= clock.steadyMs);
    this.targets.fill(0);
    this.streams.forEach((_, proxy) => {
      this.streams[proxy] = newStreams();
    });
    this.subject.restart(shards);
    this.checks.noteRestart();
    this.isTouched = true;
  }

  private begin(proxy: number, clockMs: number): ProcessLife {
    let startMs = this.subject.clock.wallMs() + clockMs;
    while (this.starts.has(startMs)) startMs--; // two processes of one proxy that began in the same millisecond would be one
    this.starts.add(startMs);
    const life = new ProcessLife(`proxy-${this.subject.conditions.sharesId ? 0 : proxy}`, startMs);
    this.oracle.born(life);
    return life;
  }

  private wait(ms: number): void {
    const { clock } = this.subject;
    const untilMs = clock.steadyMs + ms;
    while (clock.steadyMs < untilMs) {
      clock.steadyMs = Math.min(untilMs, clock.steadyMs + 20_000);
      this.deliver(clock.steadyMs);
      if (this.expireAfterMs > 0) this.subject.retireSuperseded();
    }
  }

  private send(delayMs: number, take: () => void, isAnswer = false): void {
    this.queue.push({ atMs: this.subject.clock.steadyMs + delayMs, take, isAnswer });
  }

  private deliver(untilMs: number): void {
    if (!this.queue.some(({ atMs }) => atMs <= untilMs)) return;
    const due = this.queue.filter(({ atMs }) => atMs <= untilMs).sort((a, b) => a.atMs - b.atMs);
    this.queue = this.queue.filter(({ atMs }) => atMs > untilMs);
    for (const { take } of due) take();
    this.isTouched = true;
    this.deliver(untilMs);
  }

  private at(proxy: number): number {
    return proxy % this.lives.length;
  }

  private life(proxy: number): ProcessLife {
    return this.lives[this.at(proxy)] as ProcessLife;
  }

  private telling(proxy: number): Telling {
    return this.tellings[this.at(proxy)] as Telling;
  }
}

function stamp({ startMs }: ProcessLife, log: Delivery | null): number {
  return log?.isFuture ? startMs * 2 : startMs;
}
