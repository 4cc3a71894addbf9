// LogIntake: access-log entries -> the log store. The rules decide by a few facts; only what they keep is analysed and converted.

import type { Analyser } from "../analysis/analyse.ts";
import type { EntryLog, LoggedCall } from "../analysis/logged-call.ts";
import type { Sender } from "../resolver/attribution.ts";
import type { SelfMetrics } from "../self.ts";
import { LogRecords } from "./record.ts";
import { Redaction, type RedactSettings } from "./redact.ts";
import { type LogRuleSettings, LogRules } from "./rules.ts";
import type { LogStore } from "./store.ts";

export interface LogIntakeOptions {
  readonly rules: LogRuleSettings;
  readonly redact: RedactSettings;
  readonly store: Pick<LogStore, "add">;
  /** Names what is kept. */
  readonly analyser: Analyser;
  readonly self: SelfMetrics;
}

export class LogIntake implements EntryLog {
  private readonly rules: LogRules;
  private readonly records: LogRecords;
  private readonly services = new WeakMap<Sender, string>();

  constructor(private readonly options: LogIntakeOptions) {
    const { rules, redact, self } = options;
    this.rules = new LogRules(rules, (rule) => self.logRecordsDropped.inc({ rule, reason: "per_minute" }));
    this.records = new LogRecords(new Redaction(redact));
  }

  offer(bytes: Buffer, start: number, stop: number, isHttp: boolean, sender: Sender, call: LoggedCall): void {
    const reason = this.rules.keeps(call, this.serviceOf(sender));
    if (reason === null) return;
    const { records, options } = this;
    const { analyser } = options;
    const sides = isHttp
      ? analyser.analyseHttp(bytes, start, stop, sender)
      : analyser.analyseTcp(bytes, start, stop, sender);
    if (sides.length === 0) {
      options.self.logRecordsDropped.inc({ rule: reason, reason: "not_analysed" });
      return;
    }
    for (const record of records.of(bytes, start, stop, isHttp, sides, reason, call.nowMs)) {
      if (!options.store.add(record)) options.self.logRecordsDropped.inc({ rule: reason, reason: "queue_full" });
    }
  }

  /** Whose entries these are, for the share that each has of a minute. */
  private serviceOf(sender: Sender): string {
    const known = this.services.get(sender);
    if (known !== undefined) return known;
    const { canonicalService, namespace } = sender.own;
    const service = canonicalService === "" ? sender.id : `${canonicalService}.${namespace}`;
    this.services.set(sender, service);
    return service;
  }
}
