// What becomes of requests before receivers that misbehave.

import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { type AddressInfo, createServer as createTcpServer } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, describe, expect, it } from "vitest";
import { type Access, Secret } from "../../../collector/client/secret.ts";
import { HttpTransport } from "../../../collector/out/http-transport.ts";
import { MemoryQueue } from "../../../collector/out/queue.ts";
import { Sender } from "../../../collector/out/sender.ts";

const closers: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

const NOBODY: Access = { headers: [], basic: null, bearer: null };
const TLS = { ca: null, certificate: null, key: null };

async function listen(server: Server | ReturnType<typeof createTcpServer>): Promise<string> {
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  closers.push(() => {
    if ("closeAllConnections" in server) server.closeAllConnections();
    return server.close();
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}/write`;
}

interface Received {
  readonly body: string;
  readonly atMs: number;
  readonly headers: IncomingMessage["headers"];
}

/** Answers each request by the next of the answers, then with 200; what it received. */
async function receiver(answers: ((response: ServerResponse, request: IncomingMessage) => void)[]) {
  const received: Received[] = [];
  const server = createServer((request, response) => {
    let body = "";
    request.on("data", (chunk) => {
      body += chunk;
    });
    request.on("end", () => {
      received.push({ body, atMs: performance.now(), headers: request.headers });
      const answer = answers.shift();
      if (answer) answer(response, request);
      else response.end();
    });
  });
  return { url: await listen(server), received };
}

const status =
  (code: number, headers: Record<string, string> = {}, body = "") =>
  (response: ServerResponse) => {
    response.writeHead(code, headers).end(body);
  };

/** A sender of batches "0", "1", and so on, of ten samples each, whose pauses are short. */
async function start(url: string, { access = NOBODY, timeoutMs = 5000, batches = 3, random = 0.01 } = {}) {
  const counts = { sent: 0, dropped: {} as Record<string, number>, retried: {} as Record<string, number> };
  const lines: string[] = [];
  const write = (fields: object, message: string) => lines.push(`${JSON.stringify(fields)} ${message}`);
  const queue = new MemoryQueue(1e6, () => {});
  const transport = new HttpTransport({
    url,
    headers: { "content-type": "application/x-protobuf" },
    access,
    tls: TLS,
    timeoutMs,
    isRetried: (code) => code === 429 || code >= 500,
  });
  const sender = new Sender({
    queue,
    transport,
    log: { info: write, warn: write, error: write },
    random: () => random,
    counts: {
      sent: (samples) => {
        counts.sent += samples;
      },
      dropped: (reason, samples) => {
        counts.dropped[reason] = (counts.dropped[reason] ?? 0) + samples;
      },
      retried: (reason) => {
        counts.retried[reason] = (counts.retried[reason] ?? 0) + 1;
      },
      collectionFailed: () => {},
      watch: () => {},
    },
  });
  for (let i = 0; i < batches; i++) await queue.push({ body: Buffer.from(String(i)), samples: 10, collectedMs: i });
  sender.start();
  closers.push(() => sender.stop(0));
  return { counts, lines, queue, sender };
}

async function until(isSo: () => boolean): Promise<void> {
  for (let tries = 0; tries < 400 && !isSo(); tries++) await sleep(10);
}

const bodies = (received: readonly Received[]) => received.map(({ body }) => body);

describe("a sender", () => {
  it("sends one request after the other", async () => {
    const { url, received } = await receiver([]);
    const { counts, queue } = await start(url);
    await until(() => counts.sent === 30);
    expect(bodies(received)).toEqual(["0", "1", "2"]);
    expect(counts).toEqual({ sent: 30, dropped: {}, retried: {} });
    expect(queue.samples).toBe(0);
    expect(received[0]?.headers).toMatchObject({ "content-type": "application/x-protobuf", "content-length": "1" });
  });

  it.each([
    ["500", status(500), "server_error"],
    ["503", status(503, {}, "overloaded"), "server_error"],
    ["599", status(599), "server_error"],
    ["429", status(429), "throttled"],
    ["429 with a Retry-After that is none", status(429, { "retry-after": "soon" }), "throttled"],
    [
      "429 with a Retry-After in the past",
      status(429, { "retry-after": "Fri, 31 Dec 1999 23:59:59 GMT" }),
      "throttled",
    ],
    ["a redirect", status(307, { location: "http://127.0.0.1:1/elsewhere" }), "redirected"],
    ["a reset", (response: ServerResponse) => response.socket?.resetAndDestroy(), "unreachable"],
    ["an end without an answer", (response: ServerResponse) => response.socket?.end(), "unreachable"],
    [
      "an answer that is no HTTP",
      (response: ServerResponse) => response.socket?.end("SSH-2.0-OpenSSH_9.2\r\n\0\xff garbage"),
      "unreachable",
    ],
  ])("sends again, in order, after %s", async (_, answer, reason) => {
    const { url, received } = await receiver([answer, answer]);
    const { counts } = await start(url);
    await until(() => counts.sent === 30);
    expect(bodies(received)).toEqual(["0", "0", "0", "1", "2"]);
    expect(counts).toEqual({ sent: 30, dropped: {}, retried: { [reason]: 2 } });
  });

  it.each([
    [400, "bad_request"],
    [401, "unauthorized"],
    [403, "unauthorized"],
    [404, "not_found"],
    [405, "not_found"],
    [413, "too_large"],
    [418, "refused"],
  ])("drops what is answered by %i, counts it as %s, and goes on", async (code, reason) => {
    const { url, received } = await receiver([status(code, {}, "out of order\nsample")]);
    const { counts, lines } = await start(url);
    await until(() => counts.sent === 20);
    expect(bodies(received)).toEqual(["0", "1", "2"]);
    expect(counts).toEqual({ sent: 20, dropped: { [reason]: 10 }, retried: {} });
    expect(lines).toEqual([expect.stringContaining(`status ${code}: out of order\\nsample`)]);
  });

  it.each([
    ["in seconds", () => "1"],
    ["by a date", () => new Date(Date.now() + 2000).toUTCString()], // in whole seconds, so 1 s away at least
  ])("waits as long as a receiver asks it to, %s", async (_, retryAfter) => {
    const { url, received } = await receiver([status(503, { "retry-after": retryAfter() })]);
    const { counts } = await start(url, { batches: 1 });
    await until(() => counts.sent === 10);
    expect(received[1]!.atMs - received[0]!.atMs).toBeGreaterThanOrEqual(950);
  });

  it("backs off: the pause is a random part of a bound that doubles", async () => {
    const { url, received } = await receiver([500, 500, 500, 500].map((code) => status(code)));
    const { counts } = await start(url, { batches: 1, random: 0.1 });
    await until(() => counts.sent === 10);
    const pauses = received.slice(1).map(({ atMs }, i) => atMs - received[i]!.atMs);
    for (const [i, bound] of [50, 100, 200, 400].entries()) {
      expect(pauses[i]).toBeGreaterThanOrEqual(bound - 2);
      expect(pauses[i]).toBeLessThan(bound + 200);
    }
  });

  it("sends again when no answer comes in time", async () => {
    const { url, received } = await receiver([() => {}]);
    const { counts } = await start(url, { timeoutMs: 200 });
    await until(() => counts.sent === 30);
    expect(bodies(received)).toEqual(["0", "0", "1", "2"]);
    expect(counts.retried).toEqual({ timeout: 1 });
  });

  it("takes a 200 for what it is, though its body never ends, or breaks off", async () => {
    const { url, received } = await receiver([
      (response) => {
        const more = setInterval(() => response.write("x".repeat(20_000)), 1);
        response.on("close", () => clearInterval(more));
      },
      (response) => {
        response.writeHead(200, { "content-length": "100" });
        response.write("ab", () => response.socket?.resetAndDestroy());
      },
    ]);
    const { counts } = await start(url);
    await until(() => counts.sent === 30);
    expect(bodies(received)).toEqual(["0", "1", "2"]);
    expect(counts).toEqual({ sent: 30, dropped: {}, retried: {} });
  });

  it("does not take it for a failure that an idle connection was closed", async () => {
    // Closes what it was asked over just when the next request comes.
    const received: string[] = [];
    const url = await listen(
      createTcpServer((socket) => {
        let isFirst = true;
        socket.on("data", (chunk) => {
          if (!isFirst) {
            socket.resetAndDestroy();
            return;
          }
          isFirst = false;
          received.push(chunk.toString().slice(-1));
          socket.write("HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: keep-alive\r\n\r\n");
        });
        socket.on("error", () => {});
      }),
    );
    const { counts, queue, sender } = await start(url, { batches: 1 });
    await until(() => counts.sent === 10);
    await queue.push({ body: Buffer.from("x"), samples: 10, collectedMs: 0 });
    sender.notify();
    await until(() => counts.sent === 20);
    expect(received).toEqual(["0", "x"]);
    expect(counts.retried).toEqual({});
  });

  it("waits for a receiver that is not there yet", async () => {
    const server = createServer((_, response) => response.end());
    const url = await listen(server);
    const { port } = server.address() as AddressInfo;
    await new Promise((resolve) => server.close(resolve));
    const { counts } = await start(url, { random: 0.05 });
    await until(() => (counts.retried["unreachable"] ?? 0) > 1);
    await new Promise<void>((resolve) => server.listen(port, "127.0.0.1", resolve));
    await until(() => counts.sent === 30);
    expect(counts.sent).toBe(30);
  });

  it("sends who it is, and shows it to nobody: not in a redirect, and not in its log, whatever the receiver repeats", async () => {
    const elsewhere = await receiver([]);
    const access: Access = {
      headers: [{ name: "X-Key", value: Secret.of("s3cret-key") }],
      basic: null,
      bearer: Secret.of("s3cret-token"),
    };
    const echo = (response: ServerResponse, { headers }: IncomingMessage) =>
      response.writeHead(400).end(`what is ${headers.authorization} and ${headers["x-key"]}?`);
    const { url, received } = await receiver([status(302, { location: elsewhere.url }), echo]);
    const { counts, lines } = await start(url, { access });
    await until(() => counts.sent === 20);
    expect(received[0]?.headers).toMatchObject({ authorization: "Bearer s3cret-token", "x-key": "s3cret-key" });
    expect(elsewhere.received).toEqual([]);
    expect(lines.join()).toContain("what is Bearer *** and ***?");
    expect(lines.join()).not.toContain("s3cret");
  });

  it("tries again when a secret's file is not there, and names the file", async () => {
    const { url, received } = await receiver([]);
    const { counts, lines } = await start(url, { access: { ...NOBODY, bearer: Secret.inFile("/nowhere/token") } });
    await until(() => (counts.retried["credentials"] ?? 0) > 1);
    expect(received).toEqual([]);
    expect(lines[0]).toContain("/nowhere/token");
  });

  it("says nothing of a header's value that cannot be sent", async () => {
    const { url } = await receiver([]);
    const bearer = Secret.of("s3cret\nx: y");
    const { counts, lines } = await start(url, { access: { ...NOBODY, bearer } });
    await until(() => (counts.retried["unreachable"] ?? 0) > 0);
    expect(lines[0]).toContain("authorization");
    expect(lines.join()).not.toContain("s3cret");
  });

  it("at its stop sends what waits, in the time it is given, and keeps the rest", async () => {
    const slow = (response: ServerResponse) => setTimeout(() => response.end(), 100);
    const { url, received } = await receiver([slow, slow, slow, slow, slow]);
    const { counts, queue, sender } = await start(url, { batches: 3 });
    await sender.stop(2000);
    expect(counts.sent).toBe(30);
    expect(bodies(received)).toEqual(["0", "1", "2"]);
    expect(queue.samples).toBe(0);

    const hung = await receiver([() => {}]);
    const other = await start(hung.url);
    const beganMs = performance.now();
    await other.sender.stop(200);
    expect(performance.now() - beganMs).toBeLessThan(1500);
    expect([other.counts.sent, other.queue.samples]).toEqual([0, 30]);
  });
});
