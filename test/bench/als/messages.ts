// The messages that a load's streams go round in, encoded beforehand. Before each is sent, what no two entries have in common is written
// into it: the time, the ids, the numbers in its paths. So a receiver never sees the same bytes twice, and the sender hardly works.

import { encodeMessage } from "../../fixtures/als.ts";
import { randomNumbers } from "../../host/random.ts";
import {
  type Call,
  ERRORS,
  entryFields,
  identifierOf,
  type Kind,
  OK,
  type Outcome,
  type Sidecar,
  START_SECONDS,
  STREAM_ID,
  SUCCESSES,
} from "./entry.ts";
import { makeMesh, type Workload } from "./mesh.ts";

export const ENTRIES_PER_MESSAGE = 20;
/** Of all streams together. */
interface LoadSize {
  readonly messages: number;
  readonly labelSets: number;
}
/** Of the label sets, one in so many is an error's: of the entries 1 %. */
const LABEL_SETS_PER_ERROR = 25;
/** A message of gRPC begins with whether it is compressed, and its length. */
const GRPC_PREFIX_BYTES = 5;
/** Entries began in the second before the current one: Envoy sends them within one. */
const AGE_SECONDS = 1;

const SEED = 1;
/** From one peer to the next in the mesh, so that a few are of many services already; it has no divisor in common with the mesh's size. */
const PEER_STRIDE = 73;
const PATH_DIGIT = 0x23; // #
const SERIAL_DIGITS = 8;
const HEX = Buffer.from("0123456789abcdef");
const SECONDS_BYTES = varint(START_SECONDS);
const STREAM_ID_BYTES = Buffer.from(STREAM_ID);

/** What one stream sends: who it is, then its messages again and again. With gRPC's prefix. */
export class StreamLoad {
  private next = 0;

  private constructor(
    readonly first: Buffer,
    private readonly messages: readonly ReplayedMessage[],
  ) {}

  /** All streams of a load, each another sidecar's log. Label sets are as many give or take a hundredth. */
  static encode(kind: Kind, streams: number, { messages, labelSets }: LoadSize): StreamLoad[] {
    const mesh = makeMesh(SEED);
    const random = randomNumbers(SEED);
    const serials = new Serials();
    return Array.from({ length: streams }, (_, stream) => {
      const sidecar = sidecarOf(mesh, stream, streams);
      const calls = makeCalls(mesh, sidecar, Math.ceil(labelSets / streams), Math.ceil(messages / streams), random);
      const parts = chunk(calls, ENTRIES_PER_MESSAGE);
      return new StreamLoad(
        withPrefix(encodeMessage({ identifier: identifierOf(sidecar) })),
        parts.map((part) => new ReplayedMessage(sidecar, part, kind, serials)),
      );
    });
  }

  /** The next message, with the time and ids of its own. It stays as it is until this load has gone round once more. */
  take(nowSeconds: number): Buffer {
    const message = this.messages[this.next] as ReplayedMessage;
    this.next = (this.next + 1) % this.messages.length;
    return message.renew(nowSeconds - AGE_SECONDS);
  }
}

/** Numbers for ids; all streams of a load count together. */
class Serials {
  private last = 0;

  next(): number {
    this.last = (this.last + 1) >>> 0;
    return this.last;
  }
}

/** A message, and where in it stands what is written anew each time. */
class ReplayedMessage {
  private readonly bytes: Buffer;
  private readonly secondsAt: Int32Array;
  private readonly idsAt: Int32Array;
  /** Of each entry, its digits. */
  private readonly pathsAt: readonly Int32Array[];

  constructor(
    sidecar: Sidecar,
    calls: readonly Call[],
    kind: Kind,
    private readonly serials: Serials,
  ) {
    const logEntry = calls.map((call) => entryFields(sidecar, call, kind));
    this.bytes = withPrefix(encodeMessage({ httpLogs: { logEntry } }));
    this.secondsAt = placesOf(this.bytes, SECONDS_BYTES);
    this.idsAt = placesOf(this.bytes, STREAM_ID_BYTES).map((at) => at + STREAM_ID_BYTES.length - SERIAL_DIGITS);
    let from = 0;
    this.pathsAt = calls.map(({ endpoint: { path } }) => {
      const at = this.bytes.indexOf(path, from);
      from = at + path.length;
      return digitsOf(this.bytes, at, path.length);
    });
  }

  renew(seconds: number): Buffer {
    const { bytes, secondsAt, idsAt, pathsAt } = this;
    for (const at of secondsAt) writeVarint(bytes, at, seconds);
    for (let entry = 0; entry < pathsAt.length; entry++) {
      const serial = this.serials.next();
      writeHex(bytes, idsAt[2 * entry] as number, serial);
      writeHex(bytes, idsAt[2 * entry + 1] as number, serial);
      writeDigits(bytes, pathsAt[entry] as Int32Array, serial);
    }
    return bytes;
  }
}

/** Streams come in twos: the logs of the two listeners of a pod's sidecar. */
function sidecarOf(mesh: readonly Workload[], stream: number, streams: number): Sidecar {
  const pods = Math.ceil(streams / 2);
  const workload = mesh[Math.floor(((stream >> 1) * mesh.length) / pods)] as Workload;
  return {
    direction: stream % 2 === 0 ? "inbound" : "outbound",
    workload,
    pod: workload.pods[0] as Workload["pods"][0],
  };
}

/** Each label set once, and many more of those that are called most, in any order. */
function makeCalls(
  mesh: readonly Workload[],
  sidecar: Sidecar,
  labelSets: number,
  messages: number,
  random: (bound: number) => number,
): Call[] {
  const peers = Math.ceil(labelSets / SUCCESSES.length);
  const make = (peer: number, outcome: Outcome) =>
    makeCall(sidecar, mesh[(peer * PEER_STRIDE) % mesh.length] as Workload, outcome, random);
  const calls = Array.from({ length: messages * ENTRIES_PER_MESSAGE }, (_, i) =>
    i < labelSets ? make(i % peers, outcomeOf(i, peers)) : make(skewed(peers, random), OK),
  );
  return shuffled(calls, random);
}

/** The same peer comes again after `peers` label sets, with another outcome. */
function outcomeOf(labelSet: number, peers: number): Outcome {
  const time = Math.floor(labelSet / peers);
  const isError = labelSet % LABEL_SETS_PER_ERROR === 0;
  if (isError) return ERRORS[(labelSet / LABEL_SETS_PER_ERROR + time) % ERRORS.length] as Outcome;
  return SUCCESSES[time % SUCCESSES.length] as Outcome;
}

function makeCall(
  { direction, workload }: Sidecar,
  peer: Workload,
  outcome: Outcome,
  random: (bound: number) => number,
): Call {
  const { endpoints } = (direction === "inbound" ? workload : peer).service;
  return {
    peer,
    peerPod: peer.pods[random(peer.pods.length)] as Call["peerPod"],
    endpoint: endpoints[random(endpoints.length)] as Call["endpoint"],
    outcome,
    durationNs: logNormalNs(random),
    requestBodyBytes: random(4) === 0 ? random(4000) : 0,
    responseBodyBytes: random(20_000),
    port: 32_768 + random(28_000),
  };
}

const UNIT = 1 << 30;
const MEDIAN_NS = 12_000_000;
const SIGMA = 1.1;

/** Median 12 ms, 99 % below 160 ms. */
function logNormalNs(random: (bound: number) => number): number {
  const uniform = () => (random(UNIT) + 1) / (UNIT + 1);
  const normal = Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform()); // Box-Muller
  return Math.round(MEDIAN_NS * Math.exp(SIGMA * normal));
}

/** A number below `bound`, small ones most. */
function skewed(bound: number, random: (bound: number) => number): number {
  return Math.floor(bound * (random(UNIT) / UNIT) ** 3);
}

function shuffled<T>(values: readonly T[], random: (bound: number) => number): T[] {
  return values
    .map((value) => ({ value, at: random(UNIT) }))
    .sort((a, b) => a.at - b.at)
    .map(({ value }) => value);
}

function chunk<T>(values: readonly T[], size: number): T[][] {
  return Array.from({ length: values.length / size }, (_, i) => values.slice(i * size, (i + 1) * size));
}

function withPrefix(message: Buffer): Buffer {
  const prefix = Buffer.alloc(GRPC_PREFIX_BYTES);
  prefix.writeUInt32BE(message.length, 1);
  return Buffer.concat([prefix, message]);
}

function placesOf(bytes: Buffer, part: Buffer): Int32Array {
  const places: number[] = [];
  for (let at = bytes.indexOf(part); at >= 0; at = bytes.indexOf(part, at + part.length)) places.push(at);
  return Int32Array.from(places);
}

function digitsOf(bytes: Buffer, from: number, length: number): Int32Array {
  const places = Array.from({ length }, (_, i) => from + i);
  return Int32Array.from(places.filter((at) => bytes[at] === PATH_DIGIT));
}

function varint(value: number): Buffer {
  const bytes = Buffer.alloc(5);
  writeVarint(bytes, 0, value);
  return bytes;
}

/** In five bytes, as the seconds of any time until 3058 take. */
function writeVarint(bytes: Buffer, at: number, value: number): void {
  bytes[at] = (value & 0x7f) | 0x80;
  bytes[at + 1] = ((value >>> 7) & 0x7f) | 0x80;
  bytes[at + 2] = ((value >>> 14) & 0x7f) | 0x80;
  bytes[at + 3] = ((value >>> 21) & 0x7f) | 0x80;
  bytes[at + 4] = Math.floor(value / 2 ** 28);
}

function writeHex(bytes: Buffer, at: number, value: number): void {
  for (let digit = SERIAL_DIGITS - 1, left = value; digit >= 0; digit--, left >>>= 4) {
    bytes[at + digit] = HEX[left & 15] as number;
  }
}

/** Digits that look like any: the first is no 0, as ids are written. */
function writeDigits(bytes: Buffer, places: Int32Array, serial: number): void {
  let left = Math.imul(serial, 0x9e37_79b1) >>> 0;
  for (let i = 0; i < places.length; i++) {
    bytes[places[i] as number] = 0x30 + (i === 0 ? 1 + (left % 9) : left % 10);
    left = Math.floor(left / 10);
  }
}
