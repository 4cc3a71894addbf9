// ThreadShard: the shard of a thread, led by what the main thread sends.

import { deserialize } from "node:v8";
import { CollectorError } from "../error.ts";
import { CurrentIndex } from "../identity/current-index.ts";
import { AddressIndex, type NameRules } from "../identity/lookup.ts";
import type { Objects } from "../identity/objects.ts";
import { readSubject, readSubjects, type SubjectSums } from "../indicators/reading.ts";
import type { Span } from "../indicators/slots.ts";
import { SUBJECT_KINDS } from "../indicators/subjects.ts";
import type { Log } from "../log.ts";
import type { LogRecord } from "../logs/record.ts";
import type { MovableReader } from "../receiver/als.ts";
import { LogLimit } from "../receiver/log-limit.ts";
import { SelfMetrics } from "../self.ts";
import { ChangeReader } from "./changes.ts";
import type { Answers, Command, Notice, Question, SeriesChanges, ThreadData } from "./messages.ts";
import { RingReader } from "./ring.ts";
import { nameRulesOf, Shard } from "./shard.ts";

type Post = (notice: Notice) => void;

export class ThreadShard {
  private readonly self = new SelfMetrics(null);
  private readonly rules: NameRules;
  private readonly lookup: CurrentIndex;
  private readonly shard: Shard;
  private readonly changes: ChangeReader;
  private readonly streams = new Map<number, MovableReader>();
  private readonly faults: LogLimit;
  private readonly ring: RingReader;
  private retired: SubjectSums[] = [];

  constructor(
    { config, keepsLogs, memory, state }: ThreadData,
    private readonly post: Post,
  ) {
    this.ring = new RingReader(memory);
    const log = postedLog(post);
    this.faults = new LogLimit(log);
    this.rules = nameRulesOf(config);
    this.lookup = new CurrentIndex(this.rules);
    this.shard = new Shard({
      config,
      lookup: this.lookup,
      logs: keepsLogs ? { add: (record) => this.keep(record) } : null,
      onRetired: (subjects) => this.retired.push(...subjects.map((subject) => readSubject(subject, []))),
      state,
      self: this.self,
      log,
    });
    this.changes = new ChangeReader(this.shard.store);
    this.shard.start();
    post({ kind: "ready" });
  }

  handle(command: Command): void {
    switch (command.kind) {
      case "batch":
        this.takeBatch(command.slot, command.spans);
        break;
      case "message": {
        const { buffer, byteOffset, byteLength } = command.bytes;
        this.take(command.stream, Buffer.from(buffer, byteOffset, byteLength));
        if (command.hasSlot) this.freeSlot();
        break;
      }
      case "open":
        this.streams.set(command.stream, this.shard.als.adopt(command.way));
        break;
      case "leave":
        this.remove(command.stream).leave();
        break;
      case "end":
        this.remove(command.stream).end(command.how);
        break;
      case "refuse":
        this.shard.als.refuse(command.limit);
        break;
      case "objects":
        this.lookup.replace(new AddressIndex(deserialize(Buffer.from(command.bytes)) as Objects, this.rules));
        break;
      case "ask":
        this.answer(command.id, command.question);
        break;
    }
  }

  /** The main thread has the store, and counts what finds no room there. */
  private keep(record: LogRecord): boolean {
    this.post({ kind: "log_record", record });
    return true;
  }

  /** Other messages come into the slot afterwards: readers copy what they need later. */
  private takeBatch(slot: number, spans: readonly number[]): void {
    const all = this.ring.slot(slot);
    for (let i = 0; i < spans.length; i += 3) this.take(spans[i] as number, all.subarray(spans[i + 1], spans[i + 2]));
    this.freeSlot();
  }

  private freeSlot(): void {
    if (this.ring.taken()) this.post({ kind: "room" });
  }

  private take(stream: number, bytes: Buffer): void {
    try {
      this.reader(stream).message(bytes);
    } catch (error: unknown) {
      this.faults.error("reader", { err: error }, "reader of a stream failed on a message");
    }
  }

  private reader(stream: number): MovableReader {
    const reader = this.streams.get(stream);
    if (reader === undefined) throw new CollectorError("internal", `stream ${stream} is not this thread's`);
    return reader;
  }

  private remove(stream: number): MovableReader {
    const reader = this.reader(stream);
    this.streams.delete(stream);
    return reader;
  }

  private async answer(id: number, question: Question): Promise<void> {
    try {
      const answer = await this.find(question);
      this.post({ kind: "answer", id, answer });
    } catch (error: unknown) {
      this.faults.error("answer", { err: error, question: question.kind }, "thread could not answer");
      this.post({ kind: "failed", id, reason: error instanceof Error ? error.message : String(error) });
    }
  }

  private async find(question: Question): Promise<Answers[keyof Answers]> {
    const { store, indicators, als } = this.shard;
    switch (question.kind) {
      case "report":
        return store.report(question.report);
      case "series":
        return this.takeChanges();
      case "metrics":
        return this.metrics(question.spans);
      case "subjects":
        return { subjects: [...readSubjects(indicators.subjects, question.query)], ...this.takeRetired() };
      case "accounts": {
        const { named, unnamed, beyondLimit } = als.accounts;
        return { named, unnamed, beyondLimit };
      }
      case "completeness":
        return this.shard.completeness.read();
      case "living": {
        const living = question.subjects.filter(({ kind, labels }) => indicators.subjects.has(kind, labels));
        return { living, ...this.takeRetired() };
      }
      case "state_piece":
        return this.shard.state?.nextPiece() ?? null;
      case "state_release":
        this.shard.state?.release();
        return null;
      case "stop":
        this.shard.stop();
        return null;
    }
  }

  /** Where a state is saved, what is in it. */
  private takeChanges(): readonly SeriesChanges[] {
    return this.shard.state?.takeChanges() ?? [this.changes.read()];
  }

  private async metrics(spans: readonly Span[]): Promise<Answers["metrics"]> {
    const { indicators, holdings } = this.shard;
    const subjects = SUBJECT_KINDS.flatMap((kind) => [
      ...readSubjects(indicators.subjects, { kind, spans, filter: [] }),
    ]);
    const retired = this.takeRetired();
    const series = this.takeChanges();
    const completeness = this.shard.completeness.read();
    const self = await this.self.counts(); // last: what is read before is of one moment
    return { subjects, ...retired, series, completeness, holdings, self };
  }

  private takeRetired(): { retired: readonly SubjectSums[] } {
    const { retired } = this;
    this.retired = [];
    return { retired };
  }
}

/** The main thread writes the lines, so that each is whole. */
function postedLog(post: Post): Log {
  const at = (level: keyof Log) => (fields: object, message: string) => post({ kind: "log", level, fields, message });
  return { info: at("info"), warn: at("warn"), error: at("error") };
}
