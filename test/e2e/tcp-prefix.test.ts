// The prefix of the exchange in pieces, broken, or where nobody expects one: a client of ours speaks it to the filter byte by byte, and is answered
// in kind; what is none passes as it is, at once; and a filter whose peer has none changes nothing.

import { randomBytes } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Config } from "../../demo/telemetry-config.ts";
import { exchangedMetadata, PRODUCTPAGE } from "../host/mesh.ts";
import { countsOnceClosed, filterCounters, tcpSamples } from "./tcp-counts.ts";
import { accountsOfCallees, accountsOfCallers, dial, echo, type Line, type Service } from "./tcp-line.ts";
import { CALLER, DB, startTcpMesh, type TcpMesh, type TcpMeshOptions } from "./tcp-mesh.ts";
import { encodePrefix, frame, MAGIC, splitPrefix } from "./tcp-prefix.ts";

/** The bound on waiting for the rest of a prefix; far from what a passing byte takes. */
const TIMEOUT_MS = 2000;
/** Enough for two segments to be read apart. */
const BETWEEN_SEGMENTS_MS = 60;
/** Connections that wait at the same time: so few that none waits long for its turn. */
const AT_ONCE = 150;
const TOLD = { id: PRODUCTPAGE.id, metadata: exchangedMetadata(PRODUCTPAGE) };
const PREFIX = encodePrefix(TOLD);
const QUESTION = Buffer.from("PING");
const STRUCT_URL = "\x0a\x2atype.googleapis.com/google.protobuf.Struct";
const ANY_URL = "\x0a\x2atype.googleapis.com/google.protobuf.Struxx";

/** Byte strings that begin as a prefix does and are none, which shows before they end. */
const GARBAGE: Readonly<Record<string, Buffer>> = {
  "the first byte of the magic, then others": Buffer.from("=hello"),
  "the magic but for its last byte": Buffer.concat([MAGIC.subarray(0, 3), Buffer.from("xyz")]),
  "a length of more than 64 KiB": frame(Buffer.from(STRUCT_URL), 65537),
  "the magic and a body of something else": frame(Buffer.from("SELECT 1"), 400),
  "another type in its Any": frame(Buffer.from(ANY_URL), 400),
  "a whole frame that is no Any": frame(Buffer.from("0123456789")),
  "a whole frame whose Struct is broken": frame(
    Buffer.concat([Buffer.from(STRUCT_URL), Buffer.from([0x12, 3, 0x0a, 9, 9])]),
  ),
  "no byte of it at all": randomBytes(3000),
};

describe("a client of ours at the server's filter", () => {
  let mesh: TcpMesh;
  beforeAll(async () => {
    const exchange = { tcp: { timeout: `${TIMEOUT_MS / 1000}s` } };
    mesh = await startTcpMesh({ isMutualTls: false, filters: "db", exchange });
  });
  afterAll(() => mesh?.stop());

  /** Writes the pieces so that they arrive apart, waits for so many bytes, finishes; what came back, and how long the bytes took. */
  async function converse(pieces: readonly Buffer[], answerBytes: number) {
    const line = await dial(mesh.db.port);
    for (const [index, piece] of pieces.entries()) {
      if (index > 0) await sleep(BETWEEN_SEGMENTS_MS);
      await line.write(piece);
    }
    const written = performance.now();
    await line.read(answerBytes);
    const tookMs = performance.now() - written;
    await line.hangUp();
    return { line, tookMs };
  }

  /** That the server saw the question alone, and the client the server's own prefix before the answer. */
  function expectAnsweredInKind(line: Line): void {
    const answer = splitPrefix(line.receivedHead);
    expect(answer?.rest.toString()).toBe(QUESTION.toString());
    expect(answer?.told).toMatchObject({ id: mesh.db.nodeId, metadata: { WORKLOAD_NAME: DB.name } });
  }

  async function answerLength(): Promise<number> {
    const line = await dial(mesh.db.port);
    await line.write(Buffer.concat([PREFIX, QUESTION]));
    await line.read(QUESTION.length);
    await line.hangUp();
    expectAnsweredInKind(line);
    return line.received.bytes;
  }

  test("cut at each of its bytes, the prefix is taken off whole and answered in kind", async () => {
    const wanted = await answerLength();
    const served = mesh.app.lines.length;
    const whole = Buffer.concat([PREFIX, QUESTION]);
    const cuts = Array.from({ length: whole.length - 1 }, (_, index) => index + 1);
    const lines = await Promise.all(cuts.map((cut) => converse([whole.subarray(0, cut), whole.subarray(cut)], wanted)));
    for (const { line } of lines) expectAnsweredInKind(line);
    const read = mesh.app.lines.slice(served).map(({ receivedHead }) => receivedHead.toString());
    expect(new Set(read)).toEqual(new Set([QUESTION.toString()]));
    expect(read).toHaveLength(cuts.length);
  });

  test("one byte at a time likewise", async () => {
    const wanted = await answerLength();
    const line = await dial(mesh.db.port);
    for (const byte of Buffer.concat([PREFIX, QUESTION])) {
      await line.write(Buffer.from([byte]));
      await sleep(1);
    }
    await line.read(wanted);
    await line.hangUp();
    expectAnsweredInKind(line);
  });

  test("who it says it is, is who is counted, and none of its bytes are", async () => {
    const answered = (await tcpSamples(mesh.db)).filter(({ labels }) => labels["source_workload"] === "productpage-v1");
    const of = (family: string) => answered.find(({ name }) => name === family)?.value ?? 0;
    const connections = of("istio_tcp_connections_opened_total");
    expect(connections).toBeGreaterThan(PREFIX.length);
    expect(of("istio_tcp_received_bytes_total")).toBe(connections * QUESTION.length);
    expect(of("istio_tcp_sent_bytes_total")).toBe(connections * QUESTION.length);
  });

  test("a prefix whose Struct says nothing is a prefix all the same", async () => {
    const served = mesh.app.lines.length;
    const line = await dial(mesh.db.port);
    await line.write(Buffer.concat([frame(Buffer.from(STRUCT_URL)), QUESTION]));
    await line.read(QUESTION.length);
    await line.hangUp();
    expect(mesh.app.lines[served]?.receivedHead.toString()).toBe(QUESTION.toString());
  });

  test.each(Object.keys(GARBAGE))("%s passes untouched, and at once", async (title) => {
    const garbage = GARBAGE[title] as Buffer;
    const { line, tookMs } = await converse([garbage], garbage.length);
    expect(line.received).toEqual(line.sent);
    expect(tookMs).toBeLessThan(TIMEOUT_MS / 2);
  });

  test("a prefix that stops is let go when the time is up, wherever it stops", async () => {
    const stops = [1, 7, 8, 30, PREFIX.length - 1];
    const conversations = stops.map((stop) => converse([PREFIX.subarray(0, stop)], stop));
    for (const { line, tookMs } of await Promise.all(conversations)) {
      expect(line.received).toEqual(line.sent);
      expect(tookMs).toBeGreaterThan(TIMEOUT_MS / 2);
      expect(tookMs).toBeLessThan(TIMEOUT_MS * 2);
    }
  });

  test("what follows a prefix that was let go passes as it is", async () => {
    const line = await dial(mesh.db.port);
    await line.write(PREFIX.subarray(0, 20));
    await line.read(20);
    await line.write(PREFIX.subarray(20));
    await line.read(PREFIX.length);
    await line.hangUp();
    expect(line.received).toEqual(line.sent);
  });

  test.each([1, 8, 30])(
    "a client that finishes after %i bytes of a prefix does not wait for its answer",
    async (cut) => {
      const begun = performance.now();
      const line = await dial(mesh.db.port);
      await line.write(PREFIX.subarray(0, cut));
      await line.hangUp();
      expect(line.received).toEqual(line.sent);
      expect(performance.now() - begun).toBeLessThan(TIMEOUT_MS / 2);
    },
  );

  test("every connection was counted, and each cut prefix is a fault", async () => {
    const { lines } = mesh.app;
    expect(await countsOnceClosed(mesh.db, lines.length)).toMatchObject({ opened: lines.length, closed: lines.length });
    expect(await filterCounters(mesh.db)).toMatchObject({ prefix_cut: 9 });
  });
});

describe("a server of ours behind the caller's filter", () => {
  const ANSWER = Buffer.from("PONG");
  const OWN = encodePrefix({ id: "sidecar~server", metadata: { NAMESPACE: "default", WORKLOAD_NAME: "own-server" } });
  let mesh: TcpMesh;
  /** What the next connections are answered with, in pieces, once the whole prefix of the filter and the question are there. */
  const answers: Buffer[][] = [];
  /** What the filter sent ahead of each question. */
  const told: unknown[] = [];

  const answerInPieces: Service = (line) => {
    const pieces = answers.shift() ?? [];
    line.socket.on("end", () => line.finish());
    line.socket.on("data", async () => {
      const prefix = splitPrefix(line.receivedHead);
      if (prefix?.rest.toString() !== QUESTION.toString()) return;
      told.push(prefix.told);
      for (const [index, piece] of pieces.entries()) {
        if (index > 0) await sleep(BETWEEN_SEGMENTS_MS);
        await line.write(piece);
      }
    });
  };

  beforeAll(async () => {
    const exchange = { tcp: { send: "always", timeout: `${TIMEOUT_MS / 1000}s` } };
    const options = { isMutualTls: false, filters: "caller", isDirect: true, service: answerInPieces } as const;
    mesh = await startTcpMesh({ ...options, exchange });
  });
  afterAll(() => mesh?.stop());

  /** What a caller gets when the server answers so: the first bytes, as many as are wanted. */
  async function ask(pieces: Buffer[], wanted: number): Promise<{ line: Line; tookMs: number }> {
    answers.push(pieces);
    const line = await mesh.dial();
    await line.write(QUESTION);
    const asked = performance.now();
    await line.read(wanted);
    const tookMs = performance.now() - asked;
    await line.hangUp();
    return { line, tookMs };
  }

  test("the server is told who calls, and its own prefix, cut at each of its bytes, never reaches the caller", async () => {
    const whole = Buffer.concat([OWN, ANSWER]);
    const cuts = Array.from({ length: whole.length - 1 }, (_, index) => index + 1);
    for (let from = 0; from < cuts.length; from += AT_ONCE) {
      const some = cuts.slice(from, from + AT_ONCE);
      const asked = some.map((cut) => ask([whole.subarray(0, cut), whole.subarray(cut)], ANSWER.length));
      for (const { line } of await Promise.all(asked)) expect(line.receivedHead.toString()).toBe(ANSWER.toString());
    }
    expect(told).toHaveLength(cuts.length);
    const caller = { id: mesh.caller.nodeId, metadata: { WORKLOAD_NAME: CALLER.name } };
    for (const each of told) expect(each).toMatchObject(caller);
    const samples = await tcpSamples(mesh.caller);
    const opened = samples.filter(({ name }) => name === "istio_tcp_connections_opened_total");
    expect(opened.map(({ labels, value }) => [labels["destination_workload"], value])).toEqual([
      ["own-server", cuts.length],
    ]);
  });

  test.each(Object.keys(GARBAGE))("%s passes untouched, and at once", async (title) => {
    const garbage = GARBAGE[title] as Buffer;
    const { line, tookMs } = await ask([garbage], garbage.length);
    expect(line.receivedHead.equals(garbage)).toBe(true);
    expect(tookMs).toBeLessThan(TIMEOUT_MS / 2);
  });

  /** The server says this much of a prefix, waits, and then says more, or finishes. */
  test.each([
    { title: "more bytes, in time", waitMs: 100, more: "and more" },
    { title: "more bytes, when the time is up", waitMs: TIMEOUT_MS * 2, more: "and more" },
    { title: "its end", waitMs: 100, more: "" },
  ])("what began like a prefix passes with $title", async ({ waitMs, more }) => {
    const begun = OWN.subarray(0, 30);
    const wanted = Buffer.concat([begun, Buffer.from(more)]);
    answers.push([begun]);
    const line = await mesh.dial();
    await line.write(QUESTION);
    const server = await lastServed();
    await server.read(QUESTION.length);
    await sleep(waitMs);
    if (more === "") server.finish();
    else await server.write(more);
    await line.read(wanted.length);
    await line.hangUp();
    expect(line.receivedHead.equals(wanted)).toBe(true);
  });

  async function lastServed(): Promise<Line> {
    await expect.poll(() => mesh.app.lines.length).toBe(mesh.dialled.length);
    return mesh.app.lines.at(-1) as Line;
  }
});

/** Filters that take off what a client says of itself, and neither believe nor answer it. */
const GUARDS: readonly { readonly title: string; readonly at: "caller" | "db"; readonly options: TcpMeshOptions }[] = [
  {
    title: "a gateway",
    at: "caller",
    options: {
      isMutualTls: false,
      filters: "caller",
      isDirect: true,
      exchange: {},
      settings: { direction: "gateway" },
    },
  },
  {
    title: "a gateway that takes no part in the exchange",
    at: "caller",
    options: {
      isMutualTls: false,
      filters: "caller",
      isDirect: true,
      exchange: { directions: [] },
      settings: { direction: "gateway" },
    },
  },
  {
    title: "a server that wants a certificate",
    at: "db",
    options: { isMutualTls: false, filters: "db", exchange: { trust: "mutual_tls" } },
  },
];

test.each(GUARDS)("$title takes a forged prefix off, and neither believes nor answers it", async ({ at, options }) => {
  const mesh = await startTcpMesh(options);
  try {
    const line = await dial(mesh[at].port);
    await line.write(PREFIX.subarray(0, 40));
    await sleep(BETWEEN_SEGMENTS_MS);
    await line.write(Buffer.concat([PREFIX.subarray(40), QUESTION]));
    await line.read(QUESTION.length);
    await line.hangUp();
    expect(line.receivedHead.toString()).toBe(QUESTION.toString());
    expect(mesh.app.lines.map(({ receivedHead }) => receivedHead.toString())).toEqual([QUESTION.toString()]);
    const bytes = QUESTION.length;
    expect(await countsOnceClosed(mesh[at], 1)).toEqual({ opened: 1, closed: 1, sent: bytes, received: bytes });
    const sources = (await tcpSamples(mesh[at])).map(({ labels }) => labels["source_workload"]);
    expect(new Set(sources)).toEqual(new Set([at === "caller" ? CALLER.name : "unknown"]));
  } finally {
    await mesh.stop();
  }
});

/** Meshes in which one proxy has the filter and the other has none, and nothing says `always`. */
const HALF_MESHES: readonly {
  readonly filters: "caller" | "db";
  readonly isMutualTls: boolean;
  readonly isSidecarAnnounced: boolean;
  readonly exchange: Config;
}[] = [
  { filters: "caller", isMutualTls: false, isSidecarAnnounced: true, exchange: {} },
  { filters: "caller", isMutualTls: true, isSidecarAnnounced: false, exchange: { tcp: { send: "known" } } },
  { filters: "caller", isMutualTls: true, isSidecarAnnounced: true, exchange: { tcp: { send: "never" } } },
  { filters: "caller", isMutualTls: true, isSidecarAnnounced: true, exchange: { directions: [] } },
  { filters: "db", isMutualTls: false, isSidecarAnnounced: false, exchange: {} },
  { filters: "db", isMutualTls: true, isSidecarAnnounced: true, exchange: {} },
];

describe.each(HALF_MESHES)(
  "the filter at $filters alone, mutual TLS: $isMutualTls, tlsMode istio: $isSidecarAnnounced, $exchange",
  (options) => {
    let mesh: TcpMesh;
    beforeAll(async () => {
      mesh = await startTcpMesh({ ...options, service: echo });
    });
    afterAll(() => mesh?.stop());

    test("no byte is changed either way, and each connection is counted", async () => {
      const questions = [Buffer.from("PING"), Buffer.alloc(0), randomBytes(100_000), PREFIX.subarray(0, 3)];
      for (const question of questions) {
        const line = await mesh.dial();
        await line.write(question);
        await line.hangUp();
        expect(line.received).toEqual(line.sent);
      }
      expect(accountsOfCallees(mesh.app.lines)).toEqual(accountsOfCallers(mesh.dialled));
      const bytes = questions.reduce((sum, { length }) => sum + length, 0);
      const wanted = { opened: questions.length, closed: questions.length, sent: bytes, received: bytes };
      expect(await countsOnceClosed(mesh[options.filters], questions.length)).toEqual(wanted);
    });
  },
);
