// What tests of sending metrics share: an access logger that tells of random requests, and what the collector counted of them.

import { setTimeout as sleep } from "node:timers/promises";
import * as grpc from "@grpc/grpc-js";
import type { Collector } from "../../collector/pipeline.ts";
import { encodeMessage } from "../fixtures/als.ts";
import { randomEntry } from "../fixtures/als-random.ts";
import { random } from "../property/random.ts";
import { parseExposition, type Sample, seriesId } from "./exposition.ts";

const METHOD = "/envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs";

/** Families that stand still when nothing comes: regular expression of the whole name. */
export const COUNTED = "(istio|mesh)_.*_(total|bucket|sum|count)";
const IS_COUNTED = new RegExp(`^${COUNTED}$`);

export interface Logger {
  /** Tells of so many requests. */
  readonly log: (entries: number) => Promise<void>;
  readonly close: () => void;
}

export function startLogger(collector: Collector): Logger {
  const client = new grpc.Client(collector.grpcAddress, grpc.credentials.createInsecure());
  const same = (bytes: Buffer) => bytes;
  const call = client.makeClientStreamRequest(METHOD, same, same, () => {});
  const next = random(20260131);
  const kinds = Array.from({ length: 12 }, () => randomEntry(next));
  const identifier = { node: { id: "sidecar~10.0.0.1~web-1.default~default.svc.cluster.local", cluster: "web" } };
  const log = (entries: number) =>
    new Promise<void>((resolve) => {
      const logEntry = Array.from({ length: entries }, () => kinds[Math.floor(next() * kinds.length)]);
      call.write(encodeMessage({ identifier, httpLogs: { logEntry } }), () => resolve());
    });
  const close = () => {
    call.cancel();
    client.close();
  };
  return { log, close };
}

export async function shownBy(collector: Collector): Promise<Sample[]> {
  return parseExposition(await (await fetch(`http://${collector.httpAddress}/metrics`)).text());
}

/** What is counted, by series. Without empty labels, which mean the same as none. */
export function countedOf(samples: readonly Sample[]): Map<string, number> {
  const told = (labels: Sample["labels"]) =>
    Object.fromEntries(Object.entries(labels).filter(([, text]) => text !== ""));
  return new Map(
    samples
      .filter(({ name }) => IS_COUNTED.test(name))
      .map(({ name, labels, value }) => [seriesId({ name, labels: told(labels), value }), value]),
  );
}

/** One of the collector's own metrics, summed over the series that have the reason. */
export async function own(collector: Collector, name: string, reason?: string): Promise<number> {
  const found = (await shownBy(collector)).filter((sample) => sample.name === name);
  return found
    .filter(({ labels }) => reason === undefined || labels["reason"] === reason)
    .reduce((sum, { value }) => sum + value, 0);
}

/** Waits for it, some ten seconds at most. */
export async function until(isSo: () => Promise<boolean>): Promise<void> {
  for (let tries = 0; tries < 600 && !(await isSo()); tries++) await sleep(100);
}
