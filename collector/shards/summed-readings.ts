// SummedReadings: what the threads answer, added up. They are asked one question at a time, so that slow answers do not pile up.

import { type CompletenessReading, sumCompleteness } from "../completeness/compared.ts";
import { CollectorError } from "../error.ts";
import { keptMinutes } from "../indicators/indicators.ts";
import type { SubjectQuery, SubjectReading } from "../indicators/reading.ts";
import type { Span } from "../indicators/slots.ts";
import type { Log } from "../log.ts";
import type { Accounts } from "../receiver/accounts.ts";
import { LogLimit } from "../receiver/log-limit.ts";
import type { Shapes } from "../series/shape.ts";
import type { Answers, Question, SeriesChanges } from "./messages.ts";
import { patiently } from "./patience.ts";
import type { MetricsReading, Readings, ShardHoldings } from "./shards.ts";
import { sumAccounts } from "./summed-accounts.ts";
import { SummedSeries } from "./summed-series.ts";
import { SummedSubjects } from "./summed-subjects.ts";
import type { Thread } from "./thread.ts";

/** How long one may wait for an answer. */
const ANSWER_MS = 5000;

export class SummedReadings implements Readings {
  readonly series: SummedSeries;
  readonly keptMinutes: number;
  private readonly subjectSums = new SummedSubjects();
  private readonly faults: LogLimit;
  private turn: Promise<unknown> = Promise.resolve();

  constructor(
    private readonly threads: readonly Thread[],
    { lateAfterMs, expireAfterMs }: { readonly lateAfterMs: number; readonly expireAfterMs: number },
    shapes: Shapes,
    private readonly log: Log,
  ) {
    this.series = new SummedSeries(threads.length, expireAfterMs, shapes);
    this.keptMinutes = keptMinutes(lateAfterMs);
    this.faults = new LogLimit(log);
  }

  /** Takes what the threads have to tell of their series by now, however long that takes. */
  takeTold(): Promise<void> {
    const done = this.turn.then(() => this.takeChanges());
    this.turn = done.catch(() => {});
    return done;
  }

  restored(): Promise<void> {
    return patiently(
      this.takeTold().then(() => this.series.settleRestored()),
      this.log,
      "waiting for threads to tell what was restored",
    );
  }

  refresh(): Promise<void> {
    return this.inTurn(async () => {
      await this.takeChanges();
      this.series.letGo();
    });
  }

  metrics(spans: readonly Span[]): Promise<MetricsReading> {
    return this.inTurn(async () => {
      const answers = await this.askAll({ kind: "metrics", spans });
      for (const [thread, { series, retired }] of answers.entries()) {
        this.apply(thread, series);
        this.subjectSums.addRetired(retired);
      }
      const subjects = this.subjectSums.sum(answers.map((answer) => answer.subjects));
      return {
        subjects: (kind) => subjects.filter((subject) => subject.kind === kind),
        completeness: sumCompleteness(answers.map(({ completeness }) => completeness)),
        holdings: this.sumHoldings(
          answers.map(({ holdings }) => holdings),
          subjects,
        ),
        others: answers.map(({ self }) => self),
      };
    });
  }

  subjects(query: SubjectQuery): Promise<readonly SubjectReading[]> {
    return this.inTurn(async () => {
      const answers = await this.askAll({ kind: "subjects", query });
      for (const { retired } of answers) this.subjectSums.addRetired(retired);
      return this.subjectSums.sum(answers.map(({ subjects }) => subjects));
    });
  }

  accounts(): Promise<Accounts> {
    return this.inTurn(async () => sumAccounts(await this.askAll({ kind: "accounts" })));
  }

  completeness(): Promise<CompletenessReading> {
    return this.inTurn(async () => sumCompleteness(await this.askAll({ kind: "completeness" })));
  }

  /** Forgets what no thread holds any more; to be called now and then. What a busy thread does not answer is asked again then. */
  prune(): void {
    const pruned = this.inTurn(async () => {
      const asked = this.subjectSums.retiredNames;
      const answers = await this.askAll({ kind: "living", subjects: asked });
      for (const { retired } of answers) this.subjectSums.addRetired(retired);
      // What was let go of only now was held when another thread, asked at another moment, may have begun it anew.
      this.subjectSums.keepRetired(
        asked,
        answers.flatMap(({ living, retired }) => [...living, ...retired]),
      );
    });
    pruned.catch(() => {});
  }

  private async takeChanges(): Promise<void> {
    const changes = await this.askAll({ kind: "series" });
    for (const [thread, each] of changes.entries()) this.apply(thread, each);
  }

  private apply(thread: number, all: readonly SeriesChanges[]): void {
    for (const changes of all) this.series.apply(thread, changes);
  }

  private askAll<Asked extends Question>(question: Asked): Promise<Answers[Asked["kind"]][]> {
    return Promise.all(this.threads.map((thread) => thread.ask(question)));
  }

  /** Rejects with `unavailable` when it takes too long; what is under way then is brought to its end all the same, since it is told once. */
  private inTurn<Result>(work: () => Promise<Result>): Promise<Result> {
    const late = new CollectorError("unavailable", `a thread did not answer within ${ANSWER_MS} ms; ask again`);
    let isLate = false;
    const done = this.turn.then(() => (isLate ? Promise.reject(late) : work()));
    this.turn = done.catch(() => {});
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        isLate = true;
        this.faults.warn("late", { waited_ms: ANSWER_MS }, "thread does not answer in time");
        reject(late);
      }, ANSWER_MS);
      done.then(resolve, reject).finally(() => clearTimeout(timer));
    });
  }

  /** A label set or subject that several threads hold is one. */
  private sumHoldings(parts: readonly ShardHoldings[], subjects: readonly SubjectReading[]): ShardHoldings {
    const sum = (read: (holdings: ShardHoldings) => number) => parts.reduce((total, part) => total + read(part), 0);
    const kinds = Object.keys(parts[0]?.indicators.subjects ?? {});
    const byKind = (read: (kind: string) => number) => Object.fromEntries(kinds.map((kind) => [kind, read(kind)]));
    return {
      labelSets: { http: this.series.http.series.length, tcp: this.series.tcp.series.length },
      lives: sum(({ lives }) => lives),
      cells: { http: sum(({ cells }) => cells.http), tcp: sum(({ cells }) => cells.tcp) },
      overflowed: { http: sum(({ overflowed }) => overflowed.http), tcp: sum(({ overflowed }) => overflowed.tcp) },
      letGo: { http: sum(({ letGo }) => letGo.http), tcp: sum(({ letGo }) => letGo.tcp) },
      connections: sum(({ connections }) => connections),
      indicators: {
        subjects: byKind((kind) => subjects.filter((subject) => subject.kind === kind).length),
        refused: byKind((kind) => sum(({ indicators }) => indicators.refused[kind] ?? 0)),
        late: sum(({ indicators }) => indicators.late),
        ahead: sum(({ indicators }) => indicators.ahead),
      },
    };
  }
}
