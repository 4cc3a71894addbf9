// LogIntake: access-log entries -> the log store. The rules decide by a few facts; only what they keep is analysed and converted.

import { Analyser } from "../analysis/analyse.ts";
import { isSuccess } from "../analysis/success.ts";
import type { AlsMessage } from "../proto/als.ts";
import { DOWNSTREAM_END, NOT_SET, TCP_CONNECTION_END } from "../proto/als-entry.ts";
import { OutcomeEntry } from "../proto/als-outcome.ts";
import { flagNames, type Sender } from "../resolver/attribution.ts";
import type { SelfMetrics } from "../self.ts";
import { LogRecords } from "./record.ts";
import { Redaction, type RedactSettings } from "./redact.ts";
import { type LoggedCall, type LogRuleSettings, LogRules } from "./rules.ts";
import type { LogStore } from "./store.ts";

export interface LogIntakeOptions {
  readonly rules: LogRuleSettings;
  readonly redact: RedactSettings;
  readonly store: Pick<LogStore, "add">;
  readonly self: SelfMetrics;
}

const NO_FLAGS: readonly string[] = [];

export class LogIntake {
  /** A receiver's tap that is always there. */
  readonly isActive = true;
  private readonly rules: LogRules;
  private readonly records: LogRecords;
  private readonly analyser = new Analyser();
  private readonly outcome = new OutcomeEntry();
  private readonly services = new WeakMap<Sender, string>();
  private readonly call: LoggedCall = {
    protocol: "http",
    code: 0,
    grpcStatus: null,
    flags: NO_FLAGS,
    latencyMs: null,
    success: true,
    service: "",
    nowMs: 0,
  };

  constructor(private readonly options: LogIntakeOptions) {
    const { rules, redact, self } = options;
    this.rules = new LogRules(rules, (rule) => self.logRecordsDropped.inc({ rule, reason: "per_minute" }));
    this.records = new LogRecords(new Redaction(redact));
  }

  /** The message's entries, each decided about by itself. */
  take(bytes: Buffer, { httpEntries, tcpEntries }: AlsMessage, sender: Sender): void {
    this.call.nowMs = Date.now();
    this.call.service = this.serviceOf(sender);
    this.takeEntries(bytes, httpEntries, true, sender);
    this.takeEntries(bytes, tcpEntries, false, sender);
  }

  /** One entry of which the caller knows the facts already; it is an end: of a request, or of a connection. */
  offer(bytes: Buffer, start: number, stop: number, isHttp: boolean, sender: Sender, call: LoggedCall): void {
    const reason = this.rules.keeps(call);
    if (reason === null) return;
    const { analyser, records, options } = this;
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

  private takeEntries(bytes: Buffer, spans: readonly number[], isHttp: boolean, sender: Sender): void {
    for (let i = 0; i + 1 < spans.length; i += 2) {
      const start = spans[i] as number;
      const stop = spans[i + 1] as number;
      if (!this.outcome.read(bytes, start, stop) || !this.isEnd(isHttp)) continue; // the receiver has counted why
      this.describe(isHttp);
      this.offer(bytes, start, stop, isHttp, sender, this.call);
    }
  }

  private isEnd(isHttp: boolean): boolean {
    const { accessLogType } = this.outcome;
    return accessLogType === NOT_SET || accessLogType === (isHttp ? DOWNSTREAM_END : TCP_CONNECTION_END);
  }

  /** Fills `call` with what was read of the entry. */
  private describe(isHttp: boolean): void {
    const { call, outcome } = this;
    const { responseFlags, grpcStatus } = outcome;
    call.protocol = isHttp ? (grpcStatus === null ? "http" : "grpc") : "tcp";
    call.code = outcome.responseCode;
    call.grpcStatus = grpcStatus;
    call.flags = responseFlags.length === 0 ? NO_FLAGS : flagNames(responseFlags.sort((a, b) => a - b)).split(",");
    call.latencyMs = isHttp ? outcome.latencyMs : null; // that of a connection says how long it was of use
    call.success = responseFlags.length === 0 || isSuccess(call, "client");
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
