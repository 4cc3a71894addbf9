// Calls: every HTTP and TCP entry of the access logs, counted, and its sides added to the indicators.
//
// Entries with one fingerprint (proto/als-call.ts) are of calls between the same ends, are counted under the same label set and ended
// the same way: the first of them is analysed in full, the others take its outcome and bring only their numbers.

import type { AddressLookup } from "../identity/lookup.ts";
import type { Indicator } from "../indicators/indicator.ts";
import { type Ends, type Indicators, isCurrent, type Target } from "../indicators/indicators.ts";
import type { CallMeasures } from "../indicators/measures.ts";
import { satisfactionOf } from "../indicators/satisfaction.ts";
import type { AlsIdentifier } from "../proto/als.ts";
import { methodName } from "../proto/als-analysis.ts";
import { CallEntry, type Time } from "../proto/als-call.ts";
import { DOWNSTREAM_END, NOT_SET } from "../proto/als-entry.ts";
import { FingerprintCache } from "../proto/fingerprint-cache.ts";
import {
  AlsDecoder,
  type ConnectionSink,
  derivedRecord,
  type LabelsOrigin,
  observedRecord,
  type Sender,
} from "../record/from-als.ts";
import type { AccessRecord, LogWay } from "../record/record.ts";
import { Remembered } from "../record/remembered.ts";
import { type UnknownEnds, UnknownPeers } from "../record/unknown-peers.ts";
import type { DropReason } from "../self.ts";
import { OBSERVATION_KIND_HTTP, OBSERVATION_KIND_OFFSET } from "../vocabulary.ts";
import { Analyser, defaultRules, type ServiceRules } from "./analyse.ts";
import { EndpointIndex } from "./endpoint-index.ts";
import type { EntryLog, LoggedCall } from "./logged-call.ts";
import type { Identities } from "./parties.ts";
import { codeOf, NO_RESPONSE } from "./policy.ts";
import type { Protocol, Side } from "./side.ts";

/** Some 1 KB each with the observation, half of it without, and what they lead to. */
const MAX_ROUTES = 32_768;

const MAX_SERVICES = 10_000;
const NO_FLAGS: readonly string[] = [];

/** What the entries of one fingerprint have in common. */
interface Route {
  readonly origin: LabelsOrigin;
  readonly labelKey: string;
  /** Ends that the label set leaves unknown. */
  readonly unknown: UnknownEnds;
  /** For the log's rules; null when nothing follows from the entry. */
  readonly outcome: Outcome | null;
  readonly sides: readonly RouteSide[];
}

type Outcome = Pick<LoggedCall, "protocol" | "code" | "grpcStatus" | "flags" | "success">;

interface RouteSide {
  target: Target;
  readonly isServer: boolean;
  readonly isSuccess: boolean;
  readonly flags: readonly string[];
  /** As CallMeasures has it. */
  readonly code: string;
  readonly protocol: Protocol;
  /** Of the called service: its Apdex threshold, and its namespace, for the names of endpoints. */
  readonly thresholdNs: number;
  readonly namespace: string | null;
  /** Of the called service, for its endpoints; 0 when they are not measured here. */
  readonly serviceNumber: number;
}

/** A RecordSink that is told, where they are known, which ends the record's label set leaves unknown. */
type CountingSink = (record: AccessRecord, unknown?: UnknownEnds) => DropReason | null;

export interface CallsOptions {
  readonly sink: CountingSink;
  readonly connectionSink: ConnectionSink;
  /** Null when calls are only counted. */
  readonly indicators: Indicators | null;
  /** What names the ends of calls. Default: as Identities' default. */
  readonly identities?: Identities;
  /** What is configured per service. Default: as defaultRules. */
  readonly rules?: ServiceRules;
  /** Keeps some of the entries. Default: nobody does. */
  readonly log?: EntryLog | null;
  /** Whether entries are to be expected on both ways. Default: as soon as one has come as OTLP. */
  readonly expectsOtlp?: boolean;
}

export class Calls {
  private readonly entry: CallEntry;
  private readonly decoder: AlsDecoder;
  private readonly analyser: Analyser;
  private readonly lookup: AddressLookup | undefined;
  private readonly routes = new FingerprintCache<Route>(MAX_ROUTES);
  private readonly rules: ServiceRules;
  private readonly endpoints: EndpointIndex;
  private readonly serviceNumbers = new Map<string, number>();
  private readonly peers = new UnknownPeers();
  private readonly measures: CallMeasures = newMeasures();
  private readonly logged: LoggedCall = {
    protocol: "http",
    code: 0,
    grpcStatus: null,
    flags: NO_FLAGS,
    latencyMs: null,
    tokens: 0,
    success: true,
    nowMs: 0,
  };
  /** How long ago the calls since `begin` ended, by the proxy's clock and ours; least is more than most when none told. */
  leastDelayMs = 0;
  mostDelayMs = 0;
  /**
   * Requests that are over, once entries may come on both ways: series take the larger of what both tell (series/table.ts), indicators
   * and kept logs have no two readings, and take of twins the first.
   */
  private taken: Remembered | null;
  /** Entries since `begin` that were counted, and of which nothing else could be told. */
  notAnalysed = 0;
  private lastNumber = 0;
  private nowMs = 0;
  /** Which Kubernetes objects the routes were found by. */
  private objects = 0;
  /** Since when there has been the room in which their targets were found. */
  private room = 0;

  constructor(private readonly options: CallsOptions) {
    const { identities } = options;
    this.entry = new CallEntry(identities?.analyzers.includes("k8s-mesh") ?? false);
    this.decoder = new AlsDecoder(identities);
    this.rules = options.rules ?? defaultRules();
    this.analyser = new Analyser(Date.now, identities, this.rules);
    this.endpoints = new EndpointIndex(!this.rules.endpoints.hasRules);
    this.lookup = identities?.lookup;
    this.taken = options.expectsOtlp ? new Remembered() : null;
  }

  /** Who sends the entries after this identifier. */
  identify(identifier: AlsIdentifier): Sender {
    return this.decoder.identify(identifier);
  }

  /** Entries come now, at that moment (Unix ms): once per message, for the clock costs as much as a call's sums. */
  begin(nowMs: number, way: LogWay = "als"): void {
    this.nowMs = nowMs;
    if (way === "otlp") this.taken ??= new Remembered();
    this.leastDelayMs = Number.POSITIVE_INFINITY;
    this.mostDelayMs = Number.NEGATIVE_INFINITY;
    this.notAnalysed = 0;
    const objects = this.lookup?.version ?? 0;
    const room = this.options.indicators?.subjects.roomVersion ?? 0;
    if (objects === this.objects && room === this.room) return;
    this.objects = objects;
    this.room = room;
    this.routes.clear(); // an address may be somebody else's now, and who was one of many others have room
    this.endpoints.clear();
  }

  /** Takes the HTTP entry at bytes[start, stop) of a message that `sender` sent; says how it was counted, or why not. */
  takeHttp(bytes: Buffer, start: number, stop: number, sender: Sender): LabelsOrigin | DropReason {
    const { entry } = this;
    const isRead = entry.read(bytes, start, stop, sender.own.serial);
    if (!isRead) return this.takeMalformed(bytes, start, stop, sender);
    if (entry.accessLogType !== DOWNSTREAM_END && entry.accessLogType !== NOT_SET) return "not_final";
    const route = entry.isUnique ? undefined : this.routes.get(entry.fingerprint);
    if (route === undefined) return this.takeNew(bytes, start, stop, sender); // slow
    const refusal = this.count(route, bytes, sender);
    if (refusal !== null) return refusal;
    this.tell(route, bytes, start, stop, sender);
    return route.origin;
  }

  /**
   * Takes the TCP entry there. Its sides are few, and each entry says all of its connection again: they are analysed in full.
   */
  takeTcp(bytes: Buffer, start: number, stop: number, sender: Sender): LabelsOrigin | DropReason {
    const { indicators, log, connectionSink } = this.options;
    const origin = this.decoder.decodeTcp(bytes, start, stop, sender, connectionSink);
    if (origin !== "observation" && origin !== "derived") return origin;
    const sides = this.analyser.analyseTcp(bytes, start, stop, sender);
    if (this.analyser.wasMalformed) this.notAnalysed++;
    const outcome = this.analyser.wasLast ? outcomeOf(sides) : null;
    if (indicators !== null) this.measureConnection(sides, indicators);
    if (log && outcome !== null) {
      log.offer(bytes, start, stop, false, sender, { ...outcome, latencyMs: null, tokens: 0, nowMs: this.nowMs });
    }
    return origin;
  }

  /** The filter's observation may be whole, and its stats count the request all the same. */
  private takeMalformed(bytes: Buffer, start: number, stop: number, sender: Sender): LabelsOrigin | DropReason {
    const origin = this.decoder.decode(bytes, start, stop, sender, this.options.sink);
    if (origin === "observation" || origin === "derived") this.notAnalysed++;
    return origin;
  }

  private measureConnection(sides: readonly Side[], indicators: Indicators): void {
    for (const side of sides) {
      const slot = indicators.slotOf(this.nowMs, this.nowMs); // of what was sent since the entry before, whenever it began
      indicators.addConnection(indicators.target(endsOf(side)), slot, {
        isNew: this.analyser.wasFirst,
        receivedBytes: side.requestBytes ?? 0,
        sentBytes: side.responseBytes ?? 0,
        flags: this.analyser.wasLast ? side.flags : NO_FLAGS,
      });
    }
  }

  private count({ origin, labelKey, unknown }: Route, bytes: Buffer, sender: Sender): DropReason | null {
    const { entry } = this;
    const record =
      origin === "observation"
        ? observedRecord(bytes, entry.observation.start, sender, labelKey)
        : derivedRecord(entry, entry.whole, sender, labelKey);
    return record === null ? null : this.options.sink(record, unknown);
  }

  /** The first of its fingerprint, or one that no other can be compared with. */
  private takeNew(bytes: Buffer, start: number, stop: number, sender: Sender): LabelsOrigin | DropReason {
    const { entry } = this;
    let records = 0;
    let labelKey = "";
    const origin = this.decoder.decode(bytes, start, stop, sender, (record) => {
      if (records++ === 0) labelKey = record.labelKey;
      return this.options.sink(record);
    });
    if (origin !== "observation" && origin !== "derived") return origin;
    const sides = this.analyser.analyseHttp(bytes, start, stop, sender);
    if (this.analyser.wasMalformed) {
      this.notAnalysed++;
      return origin;
    }
    const route = {
      origin,
      labelKey,
      unknown: this.peers.of(labelKey),
      outcome: outcomeOf(sides),
      sides: this.routeSides(sides),
    };
    const isAlike =
      !entry.isUnique && records === 1 && (origin === "derived" || isOneLabelSet(bytes, entry.observation.start));
    if (isAlike) this.routes.set(entry.fingerprint, route);
    this.tell(route, bytes, start, stop, sender);
    return origin;
  }

  /** Indicators and kept logs. */
  private tell(route: Route, bytes: Buffer, start: number, stop: number, sender: Sender): void {
    if (this.taken !== null && this.isTwin(this.taken, bytes, sender)) return;
    this.measure(route, bytes);
    this.offer(route, bytes, start, stop, sender);
  }

  /**
   * Whether the entry's request was told of already. Its stream id is `x-request-id`, which proxies on its way have, too, and all calls of
   * an application that hands it on; so it is this proxy's request that began at that moment.
   */
  private isTwin(taken: Remembered, bytes: Buffer, { id: proxy }: Sender): boolean {
    const { streamIdStart, streamIdStop, startTime } = this.entry;
    const id = bytes.toString("latin1", streamIdStart, streamIdStop);
    return id !== "" && taken.add(`${id} ${startTime.nanoseconds} ${proxy}`);
  }

  private offer({ outcome }: Route, bytes: Buffer, start: number, stop: number, sender: Sender): void {
    const { entry, options, logged } = this;
    const { log } = options;
    if (!log || outcome === null) return;
    const { finished } = entry;
    logged.protocol = outcome.protocol;
    logged.code = outcome.code;
    logged.flags = outcome.flags;
    logged.success = outcome.success;
    logged.grpcStatus = outcome.grpcStatus ?? (entry.grpcStatus < 0 ? null : entry.grpcStatus);
    logged.latencyMs = finished.isPresent ? finished.milliseconds : null;
    logged.tokens = entry.tokens;
    logged.nowMs = this.nowMs;
    log.offer(bytes, start, stop, true, sender, logged);
  }

  private routeSides(sides: readonly Side[]): RouteSide[] {
    const { indicators } = this.options;
    return indicators === null ? [] : sides.map((side) => this.routeSide(side, indicators));
  }

  private routeSide(side: Side, indicators: Indicators): RouteSide {
    const { destination } = side;
    const isServer = side.detectPoint === "server";
    return {
      target: indicators.target(endsOf(side)),
      isServer,
      isSuccess: side.success,
      flags: side.flags,
      code: codeText(side),
      protocol: side.protocol,
      thresholdNs: this.rules.apdex.of(destination.namespace, destination.service),
      namespace: destination.namespace,
      serviceNumber: isServer
        ? this.numberOf(JSON.stringify([destination.namespace, destination.service, side.protocol]))
        : 0,
    };
  }

  private numberOf(service: string): number {
    const known = this.serviceNumbers.get(service);
    if (known !== undefined) return known;
    if (this.serviceNumbers.size >= MAX_SERVICES) this.forget();
    this.serviceNumbers.set(service, ++this.lastNumber);
    return this.lastNumber;
  }

  /** Names come off the wire: somebody may make up ever new ones. */
  private forget(): void {
    this.serviceNumbers.clear();
    this.routes.clear();
  }

  private noteDelay(startMs: number): void {
    const delayMs = this.nowMs - startMs - this.entry.whole.milliseconds;
    if (delayMs < this.leastDelayMs) this.leastDelayMs = delayMs;
    if (delayMs > this.mostDelayMs) this.mostDelayMs = delayMs;
  }

  private measure({ sides }: Route, bytes: Buffer): void {
    const { entry, measures } = this;
    const { indicators } = this.options;
    const startMs = entry.startTime.unixMs;
    if (startMs > 0) this.noteDelay(startMs);
    if (indicators === null) return;
    const slot = indicators.slotOf(startMs, this.nowMs);
    this.readNumbers();
    for (const side of sides) {
      if (!isCurrent(side.target)) side.target = indicators.target(side.target.ends);
      measures.isSuccess = side.isSuccess;
      measures.flags = side.flags;
      measures.code = side.code;
      this.readLatency(side);
      const hasEndpoint = side.isServer && entry.pathStop > entry.pathStart;
      const endpoint = hasEndpoint ? this.endpointOf(side, bytes, indicators) : null;
      indicators.addCall(side.target, endpoint, slot, measures);
    }
  }

  private endpointOf(
    { target, serviceNumber, namespace, protocol }: RouteSide,
    bytes: Buffer,
    indicators: Indicators,
  ): Indicator {
    const { method, pathStart, pathStop } = this.entry;
    return this.endpoints.find(serviceNumber, method, bytes, pathStart, pathStop, () => {
      const { destination } = target.ends;
      const path = bytes.toString("utf8", pathStart, pathStop);
      const name = this.rules.endpoints.of(destination, namespace, methodName(method), path, protocol);
      return indicators.endpoint(destination, name);
    });
  }

  /** What both sides of a call have in common. */
  private readNumbers(): void {
    const { entry, measures } = this;
    measures.requestBytes = entry.requestHeadersBytes + entry.requestBodyBytes;
    measures.responseBytes = entry.responseHeadersBytes + entry.responseBodyBytes;
    measures.retries = entry.attempts > 1 ? entry.attempts - 1 : 0;
    measures.requestHeldNs = entry.firstUpstreamTx.isPresent ? Math.max(0, entry.firstUpstreamTx.nanoseconds) : null;
    measures.responseHeldNs = between(entry.firstUpstreamRx, entry.firstDownstreamTx);
  }

  /** As analyse.ts has it. */
  private readLatency({ isServer, isSuccess, thresholdNs }: RouteSide): void {
    const { entry, measures } = this;
    const end = !isServer && entry.lastUpstreamRx.isPresent ? entry.lastUpstreamRx : entry.finished;
    const beginNs = isServer ? 0 : entry.firstUpstreamTx.nanoseconds;
    const latencyNs = end.isPresent ? Math.max(0, end.nanoseconds - beginNs) : null;
    measures.latencyNs = latencyNs;
    measures.satisfaction =
      latencyNs === null && isSuccess ? null : satisfactionOf(latencyNs ?? 0, isSuccess, thresholdNs);
  }
}

function outcomeOf(sides: readonly Side[]): Outcome | null {
  const [side] = sides;
  if (side === undefined) return null;
  const { protocol, code, grpcStatus, flags } = side;
  return { protocol, code: code ?? 0, grpcStatus, flags, success: sides.every(({ success }) => success) };
}

/** `http 200`, `grpc 14`, `http -`. */
function codeText(side: Side): string {
  return `${side.protocol} ${codeOf(side) ?? NO_RESPONSE}`;
}

function endsOf({ detectPoint, source, destination }: Side): Ends {
  return {
    point: detectPoint,
    source: source.service,
    destination: destination.service,
    instance: destination.instance,
    namespace: destination.namespace,
  };
}

function isOneLabelSet(bytes: Buffer, observation: number): boolean {
  return bytes[observation + OBSERVATION_KIND_OFFSET] === OBSERVATION_KIND_HTTP;
}

function between(begin: Time, end: Time): number | null {
  return begin.isPresent && end.isPresent ? Math.max(0, end.nanoseconds - begin.nanoseconds) : null;
}

function newMeasures(): CallMeasures {
  return {
    isSuccess: true,
    latencyNs: null,
    satisfaction: null,
    requestBytes: 0,
    responseBytes: 0,
    retries: 0,
    requestHeldNs: null,
    responseHeldNs: null,
    code: "",
    flags: [],
  };
}
