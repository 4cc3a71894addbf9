// Conversations through three filters in a row, the one in the middle in each role: what the applications say to each other arrives
// unchanged, and each of the three counts the truth.
//
//   client app -> [productpage's] ==wire==> [the middle] ==wire==> [reviews'] -> server app, and back; each arrow cuts the bytes anew

import { expect, test } from "vitest";
import type { TcpConnection } from "../host/connection.ts";
import type { Host } from "../host/host.ts";
import { PRODUCTPAGE, startInbound, startOutbound } from "../host/mesh.ts";
import { PREFIX_MAGIC, prefixOf } from "../host/prefix.ts";
import { randomNumbers } from "../host/random.ts";
import {
  CONNECTION_FROM_PRODUCTPAGE,
  CONNECTION_TO_REVIEWS,
  connectionObservation,
  startTcpInbound,
  startTcpOutbound,
  tcpCounts,
} from "../host/tcp.ts";

type Random = (bound: number) => number;

const SEED = 20_262;
const CONVERSATIONS = 200;
/** All the time that a conversation takes: less than the bound, so that no wait is cut short. */
const STEPS = 80;
const STEP_MS = 9;
const PREFIX = prefixOf(PRODUCTPAGE);
const THROUGH = { ...CONNECTION_TO_REVIEWS, downstreamTls: CONNECTION_FROM_PRODUCTPAGE.downstreamTls };
const BOTH = { directions: ["downstream", "upstream"], trust: "any", tcp: { send: "always" } };

/** Bytes that an application may say: at times such as a prefix begins with. What has its magic and a length a gateway may not let pass. */
function utterance(random: Random, isGuarded: boolean): Buffer {
  const bytes = Buffer.from(Array.from({ length: random(60) }, () => random(256)));
  const first = random(8);
  if (first === 0) return Buffer.concat([PREFIX_MAGIC, Buffer.alloc(4, 0xff), bytes]);
  if (first === 1 && !isGuarded) return Buffer.concat([PREFIX.subarray(0, 8 + random(44)), Buffer.from([0xff]), bytes]);
  return first === 2 ? PREFIX_MAGIC.subarray(0, 1) : bytes;
}

/** One direction between two of those that talk: bytes come in, and go on in pieces. */
class Pipe {
  private taken = 0;
  private isEnded = false;

  constructor(
    private readonly offered: () => readonly [Buffer, boolean],
    private readonly deliver: (bytes: Buffer, end: boolean) => void,
  ) {}

  /** Hands over `most` bytes at most, and the end with the last one. */
  step(most: number): void {
    const [bytes, isEnding] = this.offered();
    const piece = bytes.subarray(this.taken, this.taken + most);
    this.taken += piece.length;
    const end = isEnding && this.taken === bytes.length;
    if (this.isEnded || (piece.length === 0 && !end)) return;
    this.isEnded = end;
    this.deliver(piece, end);
  }
}

interface Said {
  fromClient: Buffer;
  fromServer: Buffer;
  isOver: boolean;
}

/** The six arrows, from the client's application on and back. */
function pipes([near, middle, far]: readonly [TcpConnection, TcpConnection, TcpConnection], said: Said): Pipe[] {
  const up = (to: TcpConnection) => (bytes: Buffer, end: boolean) => void to.fromClient(bytes, { end });
  const down = (to: TcpConnection) => (bytes: Buffer, end: boolean) => void to.fromServer(bytes, { end });
  return [
    new Pipe(() => [said.fromClient, said.isOver], up(near)),
    new Pipe(() => [near.toServer, near.isServerToldEnd], up(middle)),
    new Pipe(() => [middle.toServer, middle.isServerToldEnd], up(far)),
    new Pipe(() => [said.fromServer, said.isOver], down(far)),
    new Pipe(() => [far.toClient, far.isClientToldEnd], down(middle)),
    new Pipe(() => [middle.toClient, middle.isClientToldEnd], down(near)),
  ];
}

function converse(hosts: readonly [Host, Host, Host], random: Random, label: string, isGuarded: boolean): Said {
  const said: Said = { fromClient: Buffer.alloc(0), fromServer: Buffer.alloc(0), isOver: false };
  const line = [
    hosts[0].connection(CONNECTION_TO_REVIEWS),
    hosts[1].connection(THROUGH),
    hosts[2].connection(CONNECTION_FROM_PRODUCTPAGE),
  ] as const;
  const all = pipes(line, said);
  const silent = random(6);
  for (let step = 0; step < STEPS; step++) {
    if (silent !== 0 && random(6) === 0)
      said.fromClient = Buffer.concat([said.fromClient, utterance(random, isGuarded)]);
    if (silent !== 1 && random(6) === 0) said.fromServer = Buffer.concat([said.fromServer, utterance(random, false)]);
    all[random(all.length)]?.step(random(random(3) === 0 ? 3 : 500));
    if (random(4) === 0) for (const host of hosts) host.advance(random(STEP_MS));
  }
  said.isOver = true;
  for (let round = 0; round < all.length; round++) for (const pipe of all) pipe.step(Number.POSITIVE_INFINITY);
  expect(line[2].toServer.equals(said.fromClient), `${label}: the server hears the client`).toBe(true);
  expect(line[0].toClient.equals(said.fromServer), `${label}: the client hears the server`).toBe(true);
  for (const one of line) {
    const parts = connectionObservation(one.finish())?.parts ?? [];
    const sum = (numbers: readonly bigint[]) => Number(numbers.reduce((total, number) => total + number, 0n));
    expect(sum(parts.map((part) => part.sentBytes)), label).toBe(said.fromServer.length);
    expect(sum(parts.map((part) => part.receivedBytes)), label).toBe(said.fromClient.length);
  }
  return said;
}

test.each([
  ["a waypoint that exchanges with both sides", { reporter: "SERVER_GATEWAY", metadata_exchange: BOTH }, startInbound],
  ["a gateway that exchanges with both sides", { direction: "gateway", metadata_exchange: BOTH }, startOutbound],
  ["a gateway", { direction: "gateway" }, startOutbound],
  ["a server that exchanges with both sides", { direction: "inbound", metadata_exchange: BOTH }, startInbound],
  ["a client that exchanges with both sides", { direction: "outbound", metadata_exchange: BOTH }, startOutbound],
] as const)("conversations through %s", (label, configuration, start) => {
  const random = randomNumbers(SEED);
  const hosts = [startTcpOutbound(), start({ configuration }), startTcpInbound()] as const;
  let [sent, received] = [0, 0];
  for (let index = 0; index < CONVERSATIONS; index++) {
    const said = converse(hosts, random, `${label}, conversation ${index}`, label.includes("gateway"));
    sent += said.fromServer.length;
    received += said.fromClient.length;
  }
  const counts = { opened: CONVERSATIONS, closed: CONVERSATIONS, sent, received };
  expect(hosts.map((host) => tcpCounts(host))).toEqual([counts, counts, counts]);
});
