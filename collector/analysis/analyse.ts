// Analysis: one access-log entry -> the sides of its call. A sidecar sees one side; a gateway or waypoint two, since it is called and
// calls. Total: no bytes make it throw; what is malformed, or no end of a request, has no sides.
//
// Who called whom the identity chain says (parties.ts). What was spoken, and how it ended, is what the entry's metrics are counted under:
// the filter's label set where the entry carries it, else the labels that follow from the entry's fields. The numbers are the entry's own.

import { AnalysisEntry, type Span } from "../proto/als-analysis.ts";
import {
  type CommonEntry,
  HttpEntry,
  NOT_SET,
  TCP_CONNECTION_END,
  TCP_PERIODIC,
  TcpEntry,
} from "../proto/als-entry.ts";
import { AlsDecoder, type Sender } from "../record/from-als.ts";
import { NO_UPSTREAM_FLAGS } from "../record/unknown-peers.ts";
import { Attribution, flagNames } from "../resolver/attribution.ts";
import { unpackLabels } from "../series/key.ts";
import {
  Label,
  NO_FLAGS,
  REPORTER_DESTINATION,
  REPORTER_SOURCE,
  REPORTER_WAYPOINT,
  RESPONSE_FLAGS,
} from "../vocabulary.ts";
import { ApdexThresholds } from "./apdex.ts";
import { ConnectionBytes } from "./connection-bytes.ts";
import { Endpoints } from "./endpoints.ts";
import type { Evidence } from "./evidence.ts";
import { defaultIdentities, type Identities, PartyResolver } from "./parties.ts";
import { SuccessPolicies } from "./policy.ts";
import { roleOf } from "./role.ts";
import { type DetectPoint, type Party, PROTOCOLS, type Side, type TlsMode } from "./side.ts";
import type { Outcome } from "./success.ts";

/** Their fields in an entry: ALS numbers flags from 1. */
const NO_UPSTREAM_FIELDS = NO_UPSTREAM_FLAGS.map((flag) => RESPONSE_FLAGS.indexOf(flag) + 1);
const REPORTERS: readonly string[] = [REPORTER_SOURCE, REPORTER_DESTINATION, REPORTER_WAYPOINT];
/** Last instant that a Date can hold, Unix ms. */
const MAX_TIME_MS = 8.64e15;

/** What is configured per service. */
export interface ServiceRules {
  readonly policies: SuccessPolicies;
  readonly endpoints: Endpoints;
  readonly apdex: ApdexThresholds;
}

/** The default configuration. */
export function defaultRules(): ServiceRules {
  return {
    policies: new SuccessPolicies([]),
    endpoints: new Endpoints({ rules: [], openapi: [] }),
    apdex: new ApdexThresholds({ thresholdNs: 500e6, services: [] }),
  };
}

/** What an entry says that is the same on both its sides. */
interface Call extends Outcome {
  /** "" without one, and for TCP. */
  readonly path: string;
  readonly requestBytes: number | null;
  readonly responseBytes: number | null;
  readonly hasLatency: boolean;
  /** When the response went out, for the time that it was held. */
  readonly responseSent: Span;
}

/** The label set of an entry, and who made it. */
type Counted = Pick<Evidence, "labels" | "isObserved">;

export class Analyser {
  private readonly decoder = new AlsDecoder();
  private readonly attribution = new Attribution();
  private readonly parties: PartyResolver;
  private readonly http = new HttpEntry();
  private readonly tcp = new TcpEntry();
  private readonly more = new AnalysisEntry();
  private readonly connections: ConnectionBytes;
  /** Whether the TCP entry analysed last was the first that tells of its connection, of its end. */
  wasFirst = false;
  wasLast = false;
  /** Whether nothing could be said of the entry analysed last since it is malformed. */
  wasMalformed = false;

  /** `now`: Unix ms. */
  constructor(
    now: () => number = Date.now,
    identities: Identities = defaultIdentities(),
    private readonly rules: ServiceRules = defaultRules(),
  ) {
    this.connections = new ConnectionBytes(now);
    this.parties = new PartyResolver(identities);
  }

  /** Entries before this moment were not seen. */
  restart(): void {
    this.connections.restart();
  }

  /** The sides of the HTTP entry at bytes[start, stop) of a message that `sender` sent. */
  analyseHttp(bytes: Buffer, start: number, stop: number, sender: Sender): Side[] {
    const { http, more } = this;
    this.wasMalformed = false;
    let labelKey: string | null = null;
    const outcome = this.decoder.decode(bytes, start, stop, sender, (record) => {
      if (labelKey === null || record.requests === 1) labelKey = record.labelKey;
      return null;
    });
    if (outcome !== "observation" && outcome !== "derived") return [];
    this.wasMalformed = !http.read(bytes, start, stop) || !more.read(bytes, start, stop);
    if (this.wasMalformed) return [];
    const derived = labelsOf(this.attribution.resolve(bytes, http, sender));
    const labels = labelKey === null ? derived : labelsOf(labelKey);
    const counted = { labels: withReporter(labels, derived), isObserved: labelKey !== null };
    return this.sidesOf(this.evidence(bytes, http, sender, counted, http.authority || http.sni), {
      protocol: protocolOf(labels) ?? protocolOf(derived) ?? "http",
      code: http.responseCode || null,
      grpcStatus: numberOf(labels[Label.GrpcResponseStatus]) ?? numberOf(derived[Label.GrpcResponseStatus]),
      flags: knownFlags(labels) ?? flagsOf(flagNames(http.responseFlags)),
      path: more.path,
      requestBytes: http.requestHeadersBytes + http.requestBodyBytes,
      responseBytes: http.responseHeadersBytes + http.responseBodyBytes,
      hasLatency: true,
      responseSent: more.firstDownstreamTx,
    });
  }

  /** The same of a TCP entry; its bytes are those since the connection's entry before it. */
  analyseTcp(bytes: Buffer, start: number, stop: number, sender: Sender): Side[] {
    const { tcp, more } = this;
    this.wasMalformed = false;
    let labelKey: string | null = null;
    const outcome = this.decoder.decodeTcp(bytes, start, stop, sender, ({ parts }) => {
      labelKey = parts[0]?.labelKey ?? null;
      return null;
    });
    if (outcome !== "observation" && outcome !== "derived") return [];
    this.wasMalformed = !tcp.read(bytes, start, stop) || !more.read(bytes, start, stop);
    if (this.wasMalformed) return [];
    const isOver = more.accessLogType === TCP_CONNECTION_END || more.accessLogType === NOT_SET;
    if (!isOver && more.accessLogType !== TCP_PERIODIC) return []; // it only begins
    const derived = labelsOf(this.attribution.resolveTcp(bytes, tcp, sender));
    const labels = labelKey === null ? derived : labelsOf(labelKey);
    const total = this.decoder.observedBytes ?? { received: tcp.receivedBytes, sent: tcp.sentBytes };
    const { isFirst, isLast, gained } = this.connections.take(
      more.streamId,
      more.startTime.milliseconds,
      total,
      isOver,
    );
    this.wasFirst = isFirst;
    this.wasLast = isLast;
    const counted = { labels: withReporter(labels, derived), isObserved: labelKey !== null };
    return this.sidesOf(this.evidence(bytes, tcp, sender, counted, tcp.sni || tcp.downstreamLocalAddress), {
      protocol: "tcp",
      code: null,
      grpcStatus: null,
      flags: flagsOf(flagNames(tcp.responseFlags)),
      path: "",
      requestBytes: gained?.received ?? null,
      responseBytes: gained?.sent ?? null,
      hasLatency: false,
      responseSent: more.lastDownstreamTx,
    });
  }

  private evidence(bytes: Buffer, entry: CommonEntry, sender: Sender, counted: Counted, asked: string): Evidence {
    return {
      bytes,
      entry,
      sender,
      role: roleOf(sender.id),
      ...counted,
      asked,
      hasUpstream: hasUpstream(this.more, entry),
    };
  }

  private sidesOf(evidence: Evidence, call: Call): Side[] {
    const { role, labels, entry } = evidence;
    const side = (detectPoint: DetectPoint) => this.sideOf(detectPoint, evidence, call);
    const reporter = labels[Label.Reporter];
    if (role === "router" || role === "waypoint" || reporter === REPORTER_WAYPOINT) {
      const hasCalled = this.more.hasUpstream || entry.upstreamCluster !== ""; // else it answered by itself
      return hasCalled ? [side("server"), side("client")] : [side("server")];
    }
    return [side(reporter === REPORTER_DESTINATION ? "server" : "client")];
  }

  private sideOf(detectPoint: DetectPoint, evidence: Evidence, call: Call): Side {
    const isServer = detectPoint === "server";
    const { more, parties } = this;
    const source = parties.resolve(isServer ? "downstream" : "self", evidence);
    const destination = parties.resolve(isServer ? "self" : "upstream", evidence);
    const startMs = isServer ? more.startTime.milliseconds : sum(more.startTime, more.firstUpstreamTx);
    return {
      time: timeOf(more.startTime),
      proxy: evidence.sender.id,
      role: evidence.role,
      detectPoint,
      source,
      destination,
      endpoint: this.endpointOf(call, destination),
      protocol: call.protocol,
      tls: isServer ? downstreamTls(more) : upstreamTls(evidence.entry),
      code: call.code,
      grpcStatus: call.grpcStatus,
      flags: call.flags,
      startMs,
      latencyMs: call.hasLatency ? latencyOf(more, isServer) : null,
      success: this.isSuccess(call, detectPoint, source, destination),
      requestBytes: call.requestBytes,
      responseBytes: call.responseBytes,
      internalRequestLatencyNs: notNegative(more.firstUpstreamTx.nanoseconds),
      internalResponseLatencyNs: between(more.firstUpstreamRx, call.responseSent),
    };
  }

  private endpointOf({ path, protocol }: Call, { service, namespace }: Party): string | null {
    return path === "" ? null : this.rules.endpoints.of(service, namespace, this.more.method, path, protocol);
  }

  private isSuccess(call: Call, detectPoint: DetectPoint, source: Party, destination: Party): boolean {
    const { policies } = this.rules;
    const called = policies.of(destination.namespace, destination.service);
    if (detectPoint === "server") return called.isSuccess(call, detectPoint);
    return policies.of(source.namespace, source.service).isSuccess(call, detectPoint, called);
  }
}

function labelsOf(labelKey: string): string[] {
  return unpackLabels(labelKey) ?? [];
}

/** A configuration may have removed or overridden the reporter; which end the proxy is, the entry says too. */
function withReporter(labels: string[], derived: readonly string[]): string[] {
  if (REPORTERS.includes(labels[Label.Reporter] ?? "")) return labels;
  return labels.with(Label.Reporter, derived[Label.Reporter] as string);
}

function hasUpstream(more: AnalysisEntry, { responseFlags }: CommonEntry): boolean {
  return more.hasUpstream && !responseFlags.some((field) => NO_UPSTREAM_FIELDS.includes(field));
}

function protocolOf(labels: readonly string[]) {
  return PROTOCOLS.find((protocol) => protocol === labels[Label.RequestProtocol]);
}

function numberOf(text: string | undefined): number | null {
  return text !== undefined && /^\d{1,2}$/.test(text) ? Number(text) : null;
}

/** `UF,URX` -> [UF, URX]. */
function flagsOf(names: string): string[] {
  return names === NO_FLAGS ? [] : names.split(",");
}

/** The label's flags: it knows some that a log entry has no field for. Null when a configuration wrote something else into it. */
function knownFlags(labels: readonly string[]): string[] | null {
  const flags = flagsOf(labels[Label.ResponseFlags] ?? "");
  return flags.every((flag) => RESPONSE_FLAGS.includes(flag) || /^\d{1,2}$/.test(flag)) ? flags : null;
}

function downstreamTls({ hasTlsVersion, hasLocalIdentity, hasPeerIdentity }: AnalysisEntry): TlsMode {
  if (!hasLocalIdentity && !hasTlsVersion) return "none";
  return hasLocalIdentity && hasPeerIdentity ? "mutual" : "tls";
}

/** An entry has fields only for the downstream's TLS; of the upstream's, custom tags may tell. */
function upstreamTls({ upstreamPeerUriSan, upstreamLocalUriSan }: CommonEntry): TlsMode | null {
  if (upstreamPeerUriSan === "") return null;
  return upstreamLocalUriSan === "" ? "tls" : "mutual";
}

/**
 * Server: from the start until the last byte went out. Client: from the first byte to the upstream until its last byte; from the start
 * if none was sent, until the caller's end if none came back.
 */
function latencyOf(more: AnalysisEntry, isServer: boolean): number | null {
  const finished = more.lastDownstreamTx.nanoseconds ?? more.duration.nanoseconds;
  const begin = isServer ? 0 : (more.firstUpstreamTx.nanoseconds ?? 0);
  const end = isServer ? finished : (more.lastUpstreamRx.nanoseconds ?? finished);
  return end === null ? null : Math.floor(Math.max(0, end - begin) / 1e6);
}

function sum(start: Span, offset: Span): number | null {
  const startMs = start.milliseconds;
  return startMs === null ? null : startMs + Math.max(0, offset.milliseconds ?? 0);
}

function between(begin: Span, end: Span): number | null {
  const from = begin.nanoseconds;
  const to = end.nanoseconds;
  return from === null || to === null ? null : Math.max(0, to - from);
}

function notNegative(value: number | null): number | null {
  return value === null ? null : Math.max(0, value);
}

function timeOf({ milliseconds }: Span): string | null {
  if (milliseconds === null || Math.abs(milliseconds) > MAX_TIME_MS) return null;
  return new Date(milliseconds).toISOString();
}
