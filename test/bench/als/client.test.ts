// The load generator's client against the collector's own gRPC server.

import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { silentLog } from "../../../collector/log.ts";
import { AlsReceiver } from "../../../collector/receiver/als.ts";
import { GrpcServer } from "../../../collector/receiver/grpc.ts";
import { SelfMetrics } from "../../../collector/self.ts";
import { AlsClient } from "./client.ts";
import { ENTRIES_PER_MESSAGE, StreamLoad } from "./messages.ts";

const STREAMS = 2;
const ENTRIES = 500;

let counted = 0;
let server: GrpcServer;
let url: string;

beforeEach(async () => {
  counted = 0;
  const sink = () => {
    counted++;
    return null;
  };
  server = new GrpcServer({ address: "127.0.0.1:0", log: silentLog });
  new AlsReceiver({ sink, connectionSink: sink, self: new SelfMetrics("test"), log: silentLog }).register(server);
  url = `http://127.0.0.1:${await server.start()}`;
});
afterEach(() => server.stop(0));

function startClients(): AlsClient[] {
  const loads = StreamLoad.encode("derived", STREAMS, { messages: 8, labelSets: 8 });
  return loads.map((load) => new AlsClient(url, load));
}

function underLoad(): Promise<boolean> {
  return vi.waitUntil(() => counted >= ENTRIES, { timeout: 30_000 });
}

test("what a client says it sent is what the server counted, once the stream has ended", async () => {
  const clients = startClients();
  await underLoad();
  await Promise.all(clients.map((client) => client.end()));
  const sent = clients.reduce((sum, client) => sum + client.sent, 0);
  expect(sent * ENTRIES_PER_MESSAGE).toBe(counted);
});

test("a server that goes away under load is an error", async () => {
  const clients = startClients();
  await underLoad();
  await server.stop(0);
  const ends = await Promise.allSettled(clients.map((client) => client.end()));
  expect(ends.map(({ status }) => status)).toEqual(["rejected", "rejected"]);
});
