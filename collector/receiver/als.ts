// Envoy's access-log service: StreamAccessLogs, v3 and its v2 alias. Stream -> messages -> entries -> sink; every loss counted.
// https://www.envoyproxy.io/docs/envoy/latest/api-v3/service/accesslog/v3/als.proto

import type { ServiceRules } from "../analysis/analyse.ts";
import { Calls } from "../analysis/calls.ts";
import type { EntryLog } from "../analysis/logged-call.ts";
import type { Identities } from "../analysis/parties.ts";
import type { Indicators } from "../indicators/indicators.ts";
import type { Log } from "../log.ts";
import { type AlsMessage, decodeAlsMessage } from "../proto/als.ts";
import type { LabelsOrigin, Sender } from "../record/from-als.ts";
import type { AccessRecord, ConnectionRecord, LogWay } from "../record/record.ts";
import { NEITHER_UNKNOWN, type UnknownEnds, UnknownPeers } from "../record/unknown-peers.ts";
import type { DropReason, SelfMetrics } from "../self.ts";
import { type ProxyAccount, ProxyAccounts, type Taken } from "./accounts.ts";
import type { StreamEnd, StreamReader } from "./client-stream.ts";
import { addDelay } from "./entry-delay.ts";
import type { GrpcServer } from "./grpc.ts";
import { LogLimit } from "./log-limit.ts";

const SERVICES = ["envoy.service.accesslog.v3.AccessLogService", "envoy.service.accesslog.v2.AccessLogService"];
const METHOD = "StreamAccessLogs";

/** Reasons that are as they should be: counted, but no word in the log. */
const SILENT: readonly DropReason[] = ["not_final", "no_request"];

/** Lets the server hand streams of access loggers to the readers that `open` makes; null when there are too many. */
export function registerAls(server: GrpcServer, open: () => StreamReader | null): void {
  for (const service of SERVICES) server.addClientStream(service, METHOD, open);
}

export interface AlsOptions {
  /** Most streams open at once: each may hold a message that has not come to its end. Default: as many as come. */
  readonly maxStreams?: number;
  /** Most proxies that have an account of their own. Default: as many as come. */
  readonly maxProxies?: number;
  /** Takes requests, or says why not. */
  readonly sink: (record: AccessRecord, way: LogWay) => DropReason | null;
  /** Takes TCP connections. */
  readonly connectionSink: (record: ConnectionRecord, way: LogWay) => DropReason | null;
  /** Those who read along. */
  readonly taps?: readonly MessageTap[];
  /** Where the sides of calls are added up. Default: nowhere. */
  readonly indicators?: Indicators;
  /** Names the ends of calls. Default: as they say themselves. */
  readonly identities?: Identities;
  /** What is configured per service. Default: nothing. */
  readonly rules?: ServiceRules;
  /** Keeps some of the entries. Default: nobody does. */
  readonly entryLog?: EntryLog | null;
  /** As CallsOptions. */
  readonly expectsOtlp?: boolean;
  readonly self: SelfMetrics;
  readonly log: Log;
}

/** Instead of `end`: nothing more of the stream comes here, since another reader reads on. */
export interface MovableReader extends StreamReader {
  leave(): void;
}

export interface MessageTap {
  /** Asked once per message: the whole cost of a tap that nobody uses. */
  readonly isActive: boolean;
  /** The bytes are the receiver's; what of them is needed later must be copied. */
  take(bytes: Buffer, message: AlsMessage, sender: Sender): void;
}

/** Decodes the entry there and hands on what it says. */
type DecodeEntry = (start: number, stop: number) => LabelsOrigin | DropReason;

/** What all streams of a receiver share. */
interface Shared {
  readonly options: AlsOptions;
  readonly drops: LogLimit;
  readonly calls: Calls;
  readonly accounts: ProxyAccounts;
  readonly sinks: PeerSinks;
}

export class AlsReceiver {
  /** What each proxy sent. */
  readonly accounts: ProxyAccounts;
  private readonly shared: Shared;
  private streams = 0;

  constructor(options: AlsOptions) {
    this.accounts = new ProxyAccounts(options.maxProxies ?? Number.POSITIVE_INFINITY);
    const sinks = new PeerSinks(options);
    this.shared = {
      options,
      drops: new LogLimit(options.log),
      calls: new Calls({
        sink: sinks.http,
        connectionSink: sinks.tcp,
        indicators: options.indicators ?? null,
        ...(options.identities ? { identities: options.identities } : {}),
        ...(options.rules ? { rules: options.rules } : {}),
        log: options.entryLog ?? null,
        expectsOtlp: options.expectsOtlp ?? false,
      }),
      accounts: this.accounts,
      sinks,
    };
  }

  register(server: GrpcServer): void {
    registerAls(server, () => this.open());
  }

  /** The reader of one more stream; null when there are too many. What came as OTLP has become messages of ALS. */
  open(way: LogWay = "als"): StreamReader | null {
    const { maxStreams = Number.POSITIVE_INFINITY } = this.shared.options;
    if (this.streams >= maxStreams) {
      this.refuse(maxStreams);
      return null;
    }
    this.streams++;
    return new AlsStream(this.shared, way, () => this.streams--);
  }

  /** The same of a stream that another thread counted among those open, and that may be read on elsewhere. */
  adopt(way: LogWay): MovableReader {
    return new AlsStream(this.shared, way, () => {});
  }

  /** Counts a stream of which nothing is read, since so many are open. */
  refuse(limit: number): void {
    const { options, drops, accounts } = this.shared;
    options.self.accessLogStreamsEnded.inc({ how: "refused" });
    accounts.unnamed.addEnded("refused");
    accounts.unnamed.fail("stream refused: more than limits.streams");
    drops.warn("refused", { limit }, "access-log stream refused");
  }
}

/** The sinks, with a note of which ends the label sets left unknown that went into them. */
class PeerSinks {
  /** Of all that went in since somebody set it to NEITHER_UNKNOWN; of several reasons the first. */
  unknown = NEITHER_UNKNOWN;
  /** How that which goes in came. */
  way: LogWay = "als";
  private readonly peers = new UnknownPeers();

  constructor(private readonly options: AlsOptions) {}

  readonly http = (record: AccessRecord, unknown = this.peers.of(record.labelKey)): DropReason | null => {
    this.note(unknown);
    return this.options.sink(record, this.way);
  };

  readonly tcp = (record: ConnectionRecord): DropReason | null => {
    for (const { labelKey } of record.parts) this.note(this.peers.of(labelKey));
    return this.options.connectionSink(record, this.way);
  };

  private note({ source, destination }: UnknownEnds): void {
    const { unknown } = this;
    if (source === null && destination === null) return; // fast: mostly both are known
    this.unknown = { source: unknown.source ?? source, destination: unknown.destination ?? destination };
  }
}

class AlsStream implements MovableReader {
  /** Named by the stream's first message, or by a later one that replaces it. */
  private sender: Sender | null = null;
  private account: ProxyAccount;

  constructor(
    private readonly shared: Shared,
    private readonly way: LogWay,
    private readonly onEnd: () => void,
  ) {
    this.account = shared.accounts.enter("");
    shared.options.self.accessLogStreams.inc();
  }

  leave(): void {
    this.onEnd();
    this.shared.accounts.leave(this.account);
    this.shared.options.self.accessLogStreams.dec();
  }

  end(how: StreamEnd): void {
    const { options, drops } = this.shared;
    this.leave();
    this.account.addEnded(how);
    options.self.accessLogStreamsEnded.inc({ how });
    if (how !== "broken_off") return;
    this.account.fail("stream broken off");
    drops.warn(how, { proxy: this.sender?.id ?? "" }, "access-log stream broken off");
  }

  message(bytes: Buffer): void {
    const { options, calls } = this.shared;
    options.self.accessLogMessages.inc();
    const message = decodeAlsMessage(bytes);
    if (message === null) {
      this.drop("message_malformed", 1);
      return;
    }
    const { identifier, httpEntries, tcpEntries } = message;
    if (identifier !== null) this.identify(calls.identify(identifier));
    const { sender, account } = this;
    const nowMs = Date.now();
    if (httpEntries.length + tcpEntries.length > 0) account.lastEntryMs = nowMs;
    if (sender === null || sender.id === "") {
      this.drop("node_missing", (httpEntries.length + tcpEntries.length) / 2);
      return;
    }
    this.shared.sinks.way = this.way;
    calls.begin(nowMs, this.way);
    this.takeEntries(httpEntries, account.http, (start, stop) => calls.takeHttp(bytes, start, stop, sender));
    this.takeEntries(tcpEntries, account.tcp, (start, stop) => calls.takeTcp(bytes, start, stop, sender));
    if (calls.notAnalysed > 0) options.self.accessLogNotAnalysed.inc(calls.notAnalysed);
    addDelay(account.delay, calls.leastDelayMs, calls.mostDelayMs, nowMs);
    this.tap(bytes, message, sender); // last: all is counted, whatever becomes of it
  }

  private tap(bytes: Buffer, message: AlsMessage, sender: Sender): void {
    for (const tap of this.shared.options.taps ?? []) {
      if (!tap.isActive) continue;
      try {
        tap.take(bytes, message, sender);
      } catch (error: unknown) {
        this.shared.drops.error("tap", { err: error, proxy: sender.id }, "access-log message could not be read along");
      }
    }
  }

  private identify(sender: Sender): void {
    this.sender = sender;
    const { accounts } = this.shared;
    if (sender.id === this.account.proxy) return;
    accounts.leave(this.account);
    this.account = accounts.enter(sender.id);
  }

  private takeEntries(spans: readonly number[], total: Taken, decode: DecodeEntry): void {
    const { options, sinks } = this.shared;
    const { accessLogEntries } = options.self;
    const taken = { observation: 0, derived: 0 };
    for (let i = 0; i + 1 < spans.length; i += 2) {
      sinks.unknown = NEITHER_UNKNOWN;
      const outcome = this.takeEntry(spans[i] as number, spans[i + 1] as number, decode);
      if (outcome !== "observation" && outcome !== "derived") {
        this.drop(outcome, 1);
        continue;
      }
      taken[outcome]++;
      if (sinks.unknown !== NEITHER_UNKNOWN) this.account.addUnknown(sinks.unknown);
    }
    total.observation += taken.observation;
    total.derived += taken.derived;
    // Once per message: for prom-client one increment is as much work as one entry is for us.
    if (taken.observation > 0) accessLogEntries.inc({ labels: "observation" }, taken.observation);
    if (taken.derived > 0) accessLogEntries.inc({ labels: "derived" }, taken.derived);
  }

  private takeEntry(start: number, stop: number, decode: DecodeEntry): LabelsOrigin | DropReason {
    try {
      return decode(start, stop);
    } catch (error: unknown) {
      this.shared.drops.error(
        "exception",
        { err: error, proxy: this.sender?.id ?? "" },
        "access-log entry could not be taken in",
      );
      return "internal";
    }
  }

  private drop(reason: DropReason, count: number): void {
    if (count === 0) return;
    this.account.addNotTaken(reason, count);
    this.shared.options.self.accessLogDropped.inc({ reason }, count);
    if (SILENT.includes(reason)) return;
    this.account.fail(`access-log entries not taken: ${reason}`);
    this.shared.drops.warn(reason, { reason, count, proxy: this.sender?.id ?? "" }, "access-log entries dropped");
  }
}
