// Random conversations in random pieces: what the applications say to each other arrives unchanged, and the counts are the truth.
//
//   client app -> [productpage's filter] ==wire==> [reviews' filter] -> server app, and back; each arrow cuts the bytes anew

import { describe, expect, test } from "vitest";
import { MAX_VALUE_BYTES } from "../../filter/vocabulary/stat-name.ts";
import type { ConnectionOptions, TcpConnection } from "../host/connection.ts";
import type { Host } from "../host/host.ts";
import { faults, PRODUCTPAGE, REVIEWS } from "../host/mesh.ts";
import { encodeAny, frame, PREFIX_MAGIC, prefixOf, readPrefix } from "../host/prefix.ts";
import { randomNumbers } from "../host/random.ts";
import type { JsonObject } from "../host/struct.ts";
import {
  CONNECTION_FROM_PRODUCTPAGE,
  CONNECTION_TO_REVIEWS,
  connectionObservation,
  exchangeCounts,
  startTcpInbound,
  startTcpOutbound,
  tcpCounts,
} from "../host/tcp.ts";

type Random = (bound: number) => number;

const SEED = 20_261;
const CONVERSATIONS = 300;
/** All the time that a conversation takes: less than the bound, so that no wait is cut short. */
const STEPS = 60;
const STEP_MS = 12;
const PREFIX = prefixOf(PRODUCTPAGE);

/** Bytes that an application may say: at times such as a prefix begins with. */
function utterance(random: Random): Buffer {
  const size = random(4) === 0 ? random(20_000) : random(60);
  const bytes = Buffer.from(Array.from({ length: Math.min(size, 200) }, () => random(256)));
  const body = Buffer.concat([bytes, Buffer.alloc(size - bytes.length, random(256))]);
  const first = random(8);
  if (first === 0) return Buffer.concat([PREFIX_MAGIC, Buffer.alloc(4, 0xff), body]);
  if (first === 1) return Buffer.concat([PREFIX.subarray(0, 8 + random(44)), Buffer.from([0xff]), body]);
  return body;
}

/** One direction between an application or a filter and the next: bytes come in, and go on in pieces. */
class Pipe {
  private bytes: Buffer = Buffer.alloc(0);
  private taken = 0;
  private isEnding = false;
  isEnded = false;

  constructor(
    private readonly deliver: (bytes: Buffer, end: boolean) => void,
    private readonly random: Random,
  ) {}

  /** All that has come in so far, and whether it ends there. */
  offer(all: Buffer, isEnding: boolean): void {
    this.bytes = all;
    this.isEnding = isEnding;
  }

  /** Hands over a piece of what is there, or all; the end with the last byte or after it. */
  step(isAll = false): void {
    if (this.isEnded) return;
    const left = this.bytes.length - this.taken;
    const most = this.random(3) === 0 ? 3 : 2_000;
    const size = isAll ? left : Math.min(left, this.random(most));
    const isLast = this.isEnding && size === left && (isAll || this.random(2) === 0);
    if (size === 0 && !isLast) return;
    const piece = this.bytes.subarray(this.taken, this.taken + size);
    this.taken += size;
    this.isEnded = isLast;
    this.deliver(piece, isLast);
  }
}

interface Mesh {
  readonly client: Host;
  readonly server: Host;
}

/** What a conversation carried, as its applications know. */
interface Truth {
  readonly fromClient: number;
  readonly fromServer: number;
}

/** Plays one conversation and checks that both applications hear what the other one says. */
function converse({ client, server }: Mesh, random: Random, label: string): Truth {
  const near = client.connection(CONNECTION_TO_REVIEWS);
  const far = server.connection(CONNECTION_FROM_PRODUCTPAGE);
  let fromClient: Buffer = Buffer.alloc(0);
  let fromServer: Buffer = Buffer.alloc(0);
  const pipes = {
    clientOut: new Pipe((bytes, end) => near.fromClient(bytes, { end }), random),
    wireThere: new Pipe((bytes, end) => far.fromClient(bytes, { end }), random),
    serverOut: new Pipe((bytes, end) => far.fromServer(bytes, { end }), random),
    wireBack: new Pipe((bytes, end) => near.fromServer(bytes, { end }), random),
  };
  const refresh = (isOver: boolean) => {
    pipes.clientOut.offer(fromClient, isOver);
    pipes.wireThere.offer(near.toServer, near.isServerToldEnd);
    pipes.serverOut.offer(fromServer, isOver);
    pipes.wireBack.offer(far.toClient, far.isClientToldEnd);
  };
  const all = Object.values(pipes);
  const silent = random(6);
  for (let step = 0; step < STEPS; step++) {
    if (silent !== 0 && random(6) === 0) fromClient = Buffer.concat([fromClient, utterance(random)]);
    if (silent !== 1 && random(6) === 0) fromServer = Buffer.concat([fromServer, utterance(random)]);
    refresh(false);
    all[random(all.length)]?.step();
    if (random(3) === 0) for (const host of [client, server]) host.advance(random(STEP_MS));
  }
  for (let round = 0; round < 3; round++) {
    for (const pipe of all) {
      refresh(true);
      pipe.step(true);
    }
  }
  expect(far.toServer.equals(fromClient), `${label}: the server hears the client`).toBe(true);
  expect(near.toClient.equals(fromServer), `${label}: the client hears the server`).toBe(true);
  expect([near, far].map((one) => one.held.length)).toEqual([0, 0]);
  for (const one of [near, far]) one.finish();
  checkObserved(near, fromServer.length, fromClient.length);
  checkObserved(far, fromServer.length, fromClient.length);
  return { fromClient: fromClient.length, fromServer: fromServer.length };
}

function checkObserved(connection: TcpConnection, sent: number, received: number): void {
  const parts = connectionObservation(connection)?.parts ?? [];
  const sum = (numbers: readonly bigint[]) => Number(numbers.reduce((total, one) => total + one, 0n));
  expect(sum(parts.map((part) => part.sentBytes))).toBe(sent);
  expect(sum(parts.map((part) => part.receivedBytes))).toBe(received);
}

/** Configurations of both ends, and whether the client sends its prefix. */
const EXCHANGES: readonly (readonly [string, JsonObject, JsonObject, boolean])[] = [
  ["exchange on both ends", {}, {}, true],
  ["a client that sends to all", { metadata_exchange: { tcp: { send: "always" } } }, {}, true],
  ["a client that sends to nobody", { metadata_exchange: { tcp: { send: "never" } } }, {}, false],
  ["no exchange at all", { metadata_exchange: { directions: [] } }, { metadata_exchange: { directions: [] } }, false],
  ["a server that believes certificates alone", {}, { metadata_exchange: { trust: "mutual_tls" } }, true],
];

describe("through two filters", () => {
  test.each(EXCHANGES)(
    `every byte arrives once and is counted once: %s (seed ${SEED})`,
    (name, near, far, isSending) => {
      const random = randomNumbers(SEED);
      const mesh = {
        client: startTcpOutbound({ tcp_reporting_duration: "1s", ...near }),
        server: startTcpInbound({ tcp_reporting_duration: "1s", ...far }),
      };
      let [sent, received] = [0, 0];
      for (let index = 0; index < CONVERSATIONS; index++) {
        const truth = converse(mesh, random, `${name}, conversation ${index}`);
        sent += truth.fromServer;
        received += truth.fromClient;
      }
      const { AlpnProtocolFound: told = 0 } = exchangeCounts(mesh.server);
      expect(told > CONVERSATIONS / 2, `${told} clients told who they are`).toBe(isSending);
      for (const host of [mesh.client, mesh.server]) {
        expect(tcpCounts(host)).toEqual({ opened: CONVERSATIONS, closed: CONVERSATIONS, sent, received });
        expect(faults(host)).not.toHaveProperty("prefix_cut");
        expect(faults(host)).not.toHaveProperty("host_call");
      }
    },
    120_000,
  );

  test("both ends know each other in each conversation that has bytes both ways and the client's first", () => {
    const [client, server] = [startTcpOutbound(), startTcpInbound()];
    const random = randomNumbers(SEED);
    for (let index = 0; index < CONVERSATIONS; index++) {
      const near = client.connection(CONNECTION_TO_REVIEWS).fromClient(`ping ${index}`);
      const far = server.connection(CONNECTION_FROM_PRODUCTPAGE);
      deliver(near.toServer, random, (piece) => far.fromClient(piece));
      far.fromServer(`pong ${index}`);
      deliver(far.toClient, random, (piece) => near.fromServer(piece));
      expect([far.toServer.toString(), near.toClient.toString()]).toEqual([`ping ${index}`, `pong ${index}`]);
      for (const one of [near, far]) one.finish();
    }
    expect(tcpCounts(client, { destination_workload: "reviews-v2" })).toEqual(tcpCounts(client));
    expect(tcpCounts(server, { source_workload: "productpage-v1" })).toEqual(tcpCounts(server));
    expect([faults(client), faults(server)]).toEqual([{}, {}]);
  }, 60_000);
});

/** Hands bytes over in random pieces. */
function deliver(bytes: Buffer, random: Random, take: (piece: Buffer) => void): void {
  for (let at = 0; at < bytes.length; ) {
    const size = 1 + random(random(2) === 0 ? 5 : 300);
    take(bytes.subarray(at, at + size));
    at += size;
  }
}

/** A prefix with something wrong, mostly: bytes changed, taken out or put in, another length. */
function damaged(random: Random): Buffer {
  const bytes = Buffer.from(PREFIX);
  for (let count = random(4); count > 0; count--) bytes[random(bytes.length)] = random(256);
  switch (random(5)) {
    case 0:
      bytes.writeUInt32BE(random(2_000), 4);
      return bytes;
    case 1:
      return frame(bytes.subarray(8, 8 + random(bytes.length)));
    case 2:
      return frame(encodeAny("type.googleapis.com/google.protobuf.Struct", bytes.subarray(random(bytes.length))));
    case 3:
      return Buffer.concat([bytes.subarray(0, random(bytes.length)), bytes.subarray(random(bytes.length))]);
    default:
      return bytes;
  }
}

describe("what begins like a prefix and is damaged", () => {
  const sides: readonly (readonly [string, () => Host, ConnectionOptions, "client" | "server"])[] = [
    ["from a client", startTcpInbound, CONNECTION_FROM_PRODUCTPAGE, "client"],
    ["from a server", startTcpOutbound, CONNECTION_TO_REVIEWS, "server"],
  ];

  test.each(sides)(
    `never traps; it is taken off whole or passes whole: %s (seed ${SEED})`,
    (_, start, options, from) => {
      const random = randomNumbers(SEED);
      const host = start();
      let [sent, received] = [0, 0];
      for (let index = 0; index < 3_000; index++) {
        const said = Buffer.concat([damaged(random), Buffer.from("the application's own bytes")]);
        const connection = host.connection(options);
        if (from === "client") deliver(said, random, (piece) => connection.fromClient(piece));
        else deliver(said, random, (piece) => connection.fromServer(piece));
        connection.finish();
        const heard = from === "client" ? connection.toServer : connection.toClient;
        if (!heard.equals(said)) {
          const size = 8 + said.readUInt32BE(4);
          expect(said.subarray(0, 4).equals(PREFIX_MAGIC), `${index}: what is taken off is a prefix`).toBe(true);
          expect(heard.equals(said.subarray(size)), `${index}: all of it`).toBe(true);
        }
        if (from === "client") received += heard.length;
        else sent += heard.length;
      }
      expect(tcpCounts(host)).toEqual({ opened: 3_000, closed: 3_000, sent, received });
    },
    120_000,
  );

  test("and any random bytes pass as they are", () => {
    const random = randomNumbers(SEED);
    const host = startTcpInbound();
    for (let index = 0; index < 3_000; index++) {
      const said = Buffer.from(Array.from({ length: 1 + random(MAX_VALUE_BYTES) }, () => random(256)));
      if (readPrefixQuietly(said)) continue;
      const connection = host.connection(CONNECTION_FROM_PRODUCTPAGE);
      deliver(said, random, (piece) => connection.fromClient(piece));
      expect(connection.finish().toServer.equals(said), `${index}`).toBe(true);
    }
  }, 60_000);
});

function readPrefixQuietly(bytes: Buffer): boolean {
  try {
    return readPrefix(bytes) !== undefined;
  } catch {
    return true;
  }
}

test("what a server's filter answers is what a node of that name sends", () => {
  const far = startTcpInbound().connection(CONNECTION_FROM_PRODUCTPAGE).fromClient(PREFIX).fromServer("x");
  expect(far.toClient).toEqual(Buffer.concat([prefixOf(REVIEWS), Buffer.from("x")]));
});
