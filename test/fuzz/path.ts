// The whole way of an access-log message through the collector, as pipeline.ts wires it, but for the sockets: frames, streams, entries,
// analysis, store. After each message, what went in must be found again, counted or dropped for a reason.

import assert from "node:assert/strict";
import { gzipSync } from "node:zlib";
import { Analyser } from "../../collector/analysis/analyse.ts";
import { defaultIdentities, type Identities } from "../../collector/analysis/parties.ts";
import type { Side } from "../../collector/analysis/side.ts";
import type { Identity } from "../../collector/identity/lookup.ts";
import { Indicators } from "../../collector/indicators/indicators.ts";
import { SUBJECT_KINDS } from "../../collector/indicators/subjects.ts";
import { type Log, silentLog } from "../../collector/log.ts";
import { decodeAlsMessage } from "../../collector/proto/als.ts";
import { AlsReceiver } from "../../collector/receiver/als.ts";
import type { StreamReader } from "../../collector/receiver/client-stream.ts";
import { FrameReader } from "../../collector/receiver/frames.ts";
import { SelfMetrics } from "../../collector/self.ts";
import { SeriesStore } from "../../collector/series/store.ts";
import { ServiceGraph } from "../../collector/service-graph/graph.ts";
import { encodeMessage } from "../fixtures/als.ts";
import { pick, type Random } from "../fixtures/als-random.ts";
import { mutate } from "./mutate.ts";

/** Small, so that they are reached soon: growth after that is a leak. */
const LIMITS = { proxies: 200, labelSets: 2000, cells: 5000, connections: 500, retireAfterMs: 60_000 };
const MAX_ACCOUNTS = 200;
const MAX_EDGES = 200;
const MAX_SUBJECTS = 1000;
const STREAMS = 8;
const MAX_MESSAGE_BYTES = 4 * 1024 * 1024;
/** Far more than any side has that Envoy logs; of a text, only a name of a pod is not cut to a label's length. */
const MAX_LINE_BYTES = 64 * 1024;

const POD: Identity = {
  kind: "pod",
  service: "reviews.default",
  instance: "reviews-v1.default",
  namespace: "default",
  workload: "reviews-v1",
  pod: "reviews-v1-abc",
  canonicalService: "reviews",
  labels: new Map([["app", "reviews"]]),
  called: { host: "reviews.default.svc.cluster.local", name: "reviews", namespace: "default" },
};
const IDENTITIES: Identities = {
  ...defaultIdentities(),
  lookup: {
    version: 1,
    find: (address) => (address.startsWith("10.") ? POD : null),
    isShared: () => false,
    findPod: () => null,
    findHost: () => null,
  },
};

/** What a stream begins with, so that what comes after it has a sender. */
const IDENTIFIER = encodeMessage({ identifier: { node: { id: "sidecar~10.0.0.7~a.ns~ns.svc.cluster.local" } } });

/** A fault of ours is thrown to whoever gave the message. */
const FAILING_LOG: Log = {
  ...silentLog,
  error: (fields: object, message?: string) => {
    throw new Error(`${message}: ${(fields as { err?: unknown }).err}`);
  },
};

/** How much a table holds, and how much it may. */
export interface Fill {
  readonly table: string;
  readonly size: number;
  readonly bound: number;
}

/** How often each outcome came about. */
export type Outcomes = Record<string, number>;

interface Stream {
  readonly reader: StreamReader;
  readonly frames: FrameReader;
  readonly gzipFrames: FrameReader;
}

export class MessagePath {
  readonly self = new SelfMetrics("fuzz");
  readonly store = new SeriesStore(LIMITS);
  readonly graph = new ServiceGraph(this.store, MAX_EDGES);
  readonly analyser = new Analyser();
  readonly receiver: AlsReceiver;
  sides = 0;
  private readonly streams: Stream[] = [];
  private readonly indicators = new Indicators({
    limit: MAX_SUBJECTS,
    endpointsPerService: 10_000,
    lateAfterMs: 120_000,
    retireAfterMs: 600_000,
  });
  private handedOn: Buffer | null = null;
  private before: Outcomes = {};

  constructor() {
    this.receiver = new AlsReceiver({
      maxStreams: STREAMS + 1,
      maxProxies: MAX_ACCOUNTS,
      sink: (record) => this.store.observe(record),
      connectionSink: (record) => this.store.observeConnection(record),
      identities: IDENTITIES,
      indicators: this.indicators,
      taps: [
        {
          isActive: true,
          take: (bytes, { httpEntries, tcpEntries }, sender) => {
            for (let i = 0; i + 1 < httpEntries.length; i += 2) {
              const [start, stop] = [httpEntries[i] as number, httpEntries[i + 1] as number];
              this.checkSides(this.analyser.analyseHttp(bytes, start, stop, sender));
            }
            for (let i = 0; i + 1 < tcpEntries.length; i += 2) {
              const [start, stop] = [tcpEntries[i] as number, tcpEntries[i + 1] as number];
              this.checkSides(this.analyser.analyseTcp(bytes, start, stop, sender));
            }
          },
        },
      ],
      self: this.self,
      log: FAILING_LOG,
    });
    for (let i = 0; i < STREAMS; i++) this.streams.push(this.open());
  }

  /** Sends the message on some stream, in pieces. Throws when it is not accounted for. */
  async send(draw: Random, message: Buffer): Promise<void> {
    const at = Math.floor(draw() * STREAMS);
    const stream = this.streams[at] as Stream;
    const isPacked = draw() < 0.01;
    const frame = frameOf(isPacked ? gzipSync(message) : message, isPacked);
    if (message.length > MAX_MESSAGE_BYTES) {
      const fault = (isPacked ? stream.gzipFrames : stream.frames).read(frame);
      assert.equal(fault, "too_large", "what is longer than a message may be is not read");
      stream.reader.end("broken_off");
      this.streams[at] = this.open();
      return;
    }
    this.handedOn = null;
    for (const piece of piecesOf(draw, frame)) {
      const fault = (isPacked ? stream.gzipFrames : stream.frames).read(piece);
      assert.equal(fault, null, "a whole frame is no fault");
    }
    assert.deepEqual(this.handedOn, message, "a frame's message comes out as it went in");
    if (draw() < 0.02) readBrokenFrames(draw, frame);
    if (draw() < 0.02) {
      stream.reader.end(pick(draw, ["completed", "aged", "broken_off"] as const));
      this.streams[at] = this.open();
    }
    await this.checkAccount(message);
  }

  /** What pipeline.ts does now and then. */
  tick(): void {
    this.graph.tick();
    this.store.retireSuperseded();
  }

  /** Whether a label set that nobody has told of has a place of its own. */
  get hasRoomForLabelSets(): boolean {
    return [this.store.http, this.store.tcp].some(({ series }) => series.length < LIMITS.labelSets);
  }

  /** Of each table that takes in names from outside. */
  fills(): Fill[] {
    const { store, graph, indicators } = this;
    this.tick();
    const fill = (table: string, size: number, bound: number): Fill => ({ table, size, bound });
    return [
      fill("proxy lives", store.lifeCount, LIMITS.proxies),
      fill("HTTP label sets", store.http.series.length, LIMITS.labelSets),
      fill("TCP label sets", store.tcp.series.length, LIMITS.labelSets),
      // One each is kept for every life's overflow.
      fill("HTTP cells", store.http.cellCount + store.lifeCount, LIMITS.cells),
      fill("TCP cells", store.tcp.cellCount + store.lifeCount, LIMITS.cells),
      fill("connections", store.connectionCount, LIMITS.connections),
      fill("edges of the graph", graph.edgeCount, MAX_EDGES),
      ...SUBJECT_KINDS.map((kind) => fill(`subjects: ${kind}`, indicators.subjects.count(kind), MAX_SUBJECTS)),
    ];
  }

  /** The message itself, without frames and unaccounted for: what its time is measured by. Before `send`, `account`. */
  receive(message: Buffer): void {
    this.streams[0]?.reader.message(message);
  }

  /** By where labels came from and by reason; of messages, `message_malformed`. */
  async outcomes(): Promise<Outcomes> {
    const outcomes: Outcomes = {};
    for (const metric of [this.self.accessLogEntries, this.self.accessLogDropped]) {
      for (const { labels, value } of (await metric.get()).values) outcomes[Object.values(labels).join()] = value;
    }
    return outcomes;
  }

  private open(): Stream {
    const reader = this.receiver.open();
    assert.ok(reader, "there is room for one more stream");
    reader.message(IDENTIFIER);
    const onMessage = (bytes: Buffer) => {
      this.handedOn = bytes;
      reader.message(bytes);
    };
    return {
      reader,
      frames: new FrameReader(MAX_MESSAGE_BYTES, "identity", onMessage),
      gzipFrames: new FrameReader(MAX_MESSAGE_BYTES, "gzip", onMessage),
    };
  }

  /** What was received up to now is nobody's business any more. */
  async account(): Promise<void> {
    this.before = await this.outcomes();
  }

  private async checkAccount(message: Buffer): Promise<void> {
    const { before } = this;
    const after = await this.outcomes();
    this.before = after;
    const gained = (name: string) => (after[name] ?? 0) - (before[name] ?? 0);
    const decoded = decodeAlsMessage(message);
    const entries = decoded === null ? 0 : (decoded.httpEntries.length + decoded.tcpEntries.length) / 2;
    const names = Object.keys(after).filter((name) => name !== "message_malformed");
    assert.equal(gained("internal"), 0, "no fault of ours");
    assert.equal(gained("message_malformed"), decoded === null ? 1 : 0, "a malformed message is counted as one");
    const accounted = names.reduce((total, name) => total + gained(name), 0);
    assert.equal(accounted, entries, "each entry is counted or dropped for a reason");
  }

  private checkSides(sides: readonly Side[]): void {
    this.sides += sides.length;
    assert.ok(sides.length <= 2, "an entry has two sides at most");
    for (const side of sides) {
      for (const [name, value] of Object.entries(side)) {
        if (typeof value === "number") assert.ok(Number.isFinite(value), `${name} is a number: ${value}`);
      }
      assert.ok(JSON.stringify(side).length <= MAX_LINE_BYTES, "a line of the tap is bounded");
    }
  }
}

/** gRPC's: u8 compressed, u32 length, message. */
function frameOf(message: Buffer, isPacked: boolean): Buffer {
  const head = Buffer.alloc(5);
  head[0] = isPacked ? 1 : 0;
  head.writeUInt32BE(message.length, 1);
  return Buffer.concat([head, message]);
}

function piecesOf(draw: Random, bytes: Buffer): Buffer[] {
  if (draw() < 0.5) return [bytes];
  const cuts = Array.from({ length: 1 + Math.floor(draw() * 4) }, () => Math.floor(draw() * bytes.length));
  const ends = [...cuts.sort((a, b) => a - b), bytes.length];
  return ends.map((end, i) => bytes.subarray(i === 0 ? 0 : ends[i - 1], end));
}

/** What comes out of frames whose heads lie says nothing; only that it ends in an answer, and within the bound. */
function readBrokenFrames(draw: Random, frame: Buffer): void {
  const encoding = pick(draw, ["identity", "gzip", "deflate", "snappy"]);
  const frames = new FrameReader(MAX_MESSAGE_BYTES, encoding, (bytes) => {
    assert.ok(bytes.length <= MAX_MESSAGE_BYTES, "a message is within its bound");
  });
  for (const piece of piecesOf(
    draw,
    mutate(draw, Buffer.concat([mutate(draw, frame.subarray(0, 5)), frame.subarray(5)])),
  )) {
    if (frames.read(piece) !== null) return;
  }
}
