// Decoders of access logs on bytes that nobody would send on purpose: nothing throws, and every entry is accounted for.

import { describe, expect, test } from "vitest";
import { silentLog } from "../../collector/log.ts";
import { decodeAlsMessage } from "../../collector/proto/als.ts";
import { EntryScan, HttpEntry, TcpEntry } from "../../collector/proto/als-entry.ts";
import { decodeFlatNode } from "../../collector/proto/flat-node.ts";
import { decodeMetadata } from "../../collector/proto/struct.ts";
import { AlsReceiver } from "../../collector/receiver/als.ts";
import type { StreamReader } from "../../collector/receiver/client-stream.ts";
import type { AccessRecord, ConnectionRecord } from "../../collector/record/record.ts";
import { SelfMetrics } from "../../collector/self.ts";
import { unpackLabels } from "../../collector/series/key.ts";
import { Label } from "../../collector/vocabulary.ts";
import { encodeMessage, encodeStruct } from "../fixtures/als.ts";
import { pick, randomMessage } from "../fixtures/als-random.ts";
import { encodeFlatNode } from "../fixtures/flat-node.ts";
import { mutate, noise } from "../fuzz/mutate.ts";
import { random } from "./random.ts";

const SEED = 20_260_131;
const MESSAGES = 30_000;
const BASE_MESSAGES = 200;

test(`${MESSAGES} injured messages: nothing throws, and counted and dropped entries add up (seed ${SEED})`, async () => {
  const draw = random(SEED);
  const bases = Array.from({ length: BASE_MESSAGES }, () => encodeMessage(randomMessage(draw)));
  const records: AccessRecord[] = [];
  const connections: ConnectionRecord[] = [];
  const self = new SelfMetrics("test");
  const receiver = new AlsReceiver({
    sink: (record) => {
      records.push(record);
      return records.length % 20 === 0 ? "proxies_full" : null;
    },
    connectionSink: (record) => {
      connections.push(record);
      return connections.length % 20 === 0 ? "connections_full" : null;
    },
    self,
    log: silentLog,
  });

  let malformed = 0;
  let entries = 0;
  let stream = receiver.open() as StreamReader;
  for (let i = 0; i < MESSAGES; i++) {
    const bytes = mutate(draw, pick(draw, bases));
    const message = decodeAlsMessage(bytes);
    if (message === null) malformed++;
    else entries += (message.httpEntries.length + message.tcpEntries.length) / 2;
    stream.message(bytes);
    if (i % 50 !== 0) continue;
    stream.end("completed");
    stream = receiver.open() as StreamReader;
  }
  stream.end("completed");

  const counted = await valuesOf(self, "meshtally_access_log_entries_total");
  const { message_malformed, internal, ...dropped } = await valuesOf(self, "meshtally_access_log_dropped_total");
  expect(await valuesOf(self, "meshtally_access_log_messages_total")).toEqual({ "": MESSAGES });
  expect(message_malformed).toBe(malformed);
  expect(internal).toBe(0);
  expect(sum(counted) + sum(dropped)).toBe(entries);
  const refused = (dropped["proxies_full"] ?? 0) + (dropped["connections_full"] ?? 0);
  expect(records.length + connections.length).toBe(sum(counted) + refused);
  // The injuries reach every outcome, so the sums above mean something.
  for (const reason of [
    "entry_malformed",
    "node_missing",
    "not_final",
    "kind_unknown",
    "proxies_full",
    "connections_full",
  ]) {
    expect(dropped[reason]).toBeGreaterThan(100);
  }
  expect(Object.keys(counted).sort()).toEqual(["derived", "observation"]);
  expect(malformed).toBeGreaterThan(1000);
  for (const record of records) expectUsable(record);
  for (const connection of connections) expectUsableConnection(connection);
});

function expectUsable(record: AccessRecord): void {
  const { proxy, lifeMs, labelKey, durationMs, requestBytes, responseBytes } = record;
  const isUsable =
    proxy !== "" &&
    unpackLabels(labelKey) !== null &&
    Number.isFinite(lifeMs) &&
    [durationMs, requestBytes, responseBytes].every((value) => Number.isFinite(value) && value >= -1);
  if (!isUsable) expect.fail(`no usable record: ${JSON.stringify(record)}`);
}

function expectUsableConnection(record: ConnectionRecord): void {
  const { proxy, lifeMs, connectionId, streamId, parts } = record;
  const isUsable =
    proxy !== "" &&
    Number.isFinite(lifeMs) &&
    Number.isFinite(connectionId) &&
    streamId.length <= 128 &&
    parts.every(({ labelKey, counts }) => {
      const values = unpackLabels(labelKey);
      const isEmpty = (label: Label) => values?.[label] === "";
      const isCount = (count: number) => Number.isFinite(count) && count >= 0;
      return isEmpty(Label.ResponseCode) && isEmpty(Label.GrpcResponseStatus) && counts.every(isCount);
    });
  if (!isUsable) expect.fail(`no usable record: ${JSON.stringify(record)}`);
}

describe("random bytes", () => {
  const decoders: [string, (bytes: Buffer) => unknown][] = [
    ["a message", decodeAlsMessage],
    ["an entry, fast", (bytes) => new EntryScan().read(bytes, 0, bytes.length)],
    ["an entry, slow", (bytes) => new HttpEntry().read(bytes, 0, bytes.length)],
    ["a TCP entry, slow", (bytes) => new TcpEntry().read(bytes, 0, bytes.length)],
    ["a Struct", (bytes) => decodeMetadata(bytes, 0, bytes.length)],
    ["a FlatNode", (bytes) => decodeFlatNode(bytes, 0, bytes.length)],
  ];

  test.each(decoders)("never make the decoder of %s throw", (_name, decode) => {
    const draw = random(SEED + 1);
    for (let i = 0; i < 5000; i++) decode(Buffer.concat([noise(draw), noise(draw), noise(draw), noise(draw)]));
  });
});

test("10,000 injured FlatNodes and Structs never throw, and hold no more than they may", () => {
  const draw = random(SEED + 2);
  const labels = { app: "reviews", version: "v1", "service.istio.io/canonical-name": "reviews" };
  const node = encodeFlatNode({ name: "a", namespace: "ns", workloadName: "w", clusterId: "c", labels });
  const struct = encodeStruct({ NAME: "a", NAMESPACE: "ns", LABELS: labels });
  for (let i = 0; i < 10_000; i++) {
    const flat = mutate(draw, node);
    const decoded = decodeFlatNode(flat, 0, flat.length);
    expect(decoded?.labels.size ?? 0).toBeLessThanOrEqual(256);
    const bytes = mutate(draw, struct);
    decodeMetadata(bytes, 0, bytes.length);
  }
});

async function valuesOf(self: SelfMetrics, name: string): Promise<Record<string, number>> {
  const metric = (await self.registry.getMetricsAsJSON()).find((each) => each.name === name);
  const samples = (metric?.values ?? []) as { value: number; labels: Record<string, string> }[];
  return Object.fromEntries(samples.map(({ value, labels }) => [Object.values(labels).join(), value]));
}

function sum(values: Record<string, number>): number {
  return Object.values(values).reduce((total, value) => total + value, 0);
}
