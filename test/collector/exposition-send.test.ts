import { randomBytes } from "node:crypto";
import { createServer, get, type IncomingMessage, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { buffer } from "node:stream/consumers";
import { setTimeout as sleep } from "node:timers/promises";
import { gunzipSync } from "node:zlib";
import { afterEach, describe, expect, it } from "vitest";
import { PAGE_BYTES, Pages } from "../../collector/web/exposition/pages.ts";
import { send, sendPacked } from "../../collector/web/exposition/send.ts";

const WAYS = [
  ["as it is", send],
  ["packed", sendPacked],
] as const;
const LINE = `${"x".repeat(999)}\n`;

/** Pieces as the text writer makes them: in two memories that are used in turn. */
class Pieces {
  asked = 0;
  isEnded = false;

  constructor(private readonly count: number) {}

  async *all(): AsyncGenerator<Buffer> {
    const pages = new Pages();
    try {
      while (this.asked < this.count) {
        const piece = pages.reserve(2 * LINE.length);
        if (piece !== null) {
          this.asked++;
          yield piece;
        }
        pages.page.putText(`${this.asked} ${randomText()}\n`);
        pages.page.putText(LINE);
      }
    } finally {
      this.isEnded = true;
    }
  }
}

/** Does not pack well, so that a slow reader holds up the packed body as well. */
function randomText(): string {
  return randomBytes(500).toString("base64");
}

let server: Server | undefined;

afterEach(() => {
  server?.closeAllConnections();
  server?.close();
});

/** Serves one body; resolves with what came of sending it. */
async function serve(way: typeof send | typeof sendPacked, pieces: AsyncGenerator<Buffer>) {
  let done: (result: Promise<void>) => void = () => {};
  const sent = new Promise<void>((resolve) => {
    done = resolve;
  });
  sent.catch(() => {}); // looked at later
  server = createServer((_, response) => {
    response.flushHeaders();
    const result = way(pieces, response);
    result.catch(() => response.destroy());
    done(result);
  });
  await new Promise<void>((resolve) => server?.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  const response = await new Promise<IncomingMessage>((resolve) => {
    get({ port, host: "127.0.0.1" }, resolve);
  });
  return { response, sent };
}

/** Resolves when the number stays the same. */
async function settled(read: () => number): Promise<number> {
  let before = -1;
  while (read() !== before) {
    before = read();
    await sleep(300);
  }
  return before;
}

describe.each(WAYS)("a body sent %s", (name, way) => {
  it("arrives whole and in order, though its memory is used again and again", async () => {
    const pieces = new Pieces(20);
    const { response, sent } = await serve(way, pieces.all());
    const body = await buffer(response);
    await sent;
    const text = (name === "packed" ? gunzipSync(body) : body).toString();
    expect(text.length).toBeGreaterThan(19 * PAGE_BYTES);
    const lines = text.split("\n");
    const numbers = lines
      .filter((_, index) => index % 2 === 0 && index < lines.length - 1)
      .map((line) => parseInt(line, 10));
    expect(numbers).toEqual([...numbers].sort((a, b) => a - b));
    expect(numbers.at(-1)).toBe(19);
    expect(lines.filter((line, index) => index % 2 === 1 && `${line}\n` !== LINE)).toEqual([]);
  });

  it("is made no faster than its reader takes it", async () => {
    const pieces = new Pieces(1000);
    const { response, sent } = await serve(way, pieces.all());
    response.pause();
    // What it runs ahead by is what the system holds of the connection.
    expect(await settled(() => pieces.asked)).toBeLessThan(200);
    response.destroy();
    await sent;
  });

  it("is broken off when its reader leaves", async () => {
    const pieces = new Pieces(1000);
    const { response, sent } = await serve(way, pieces.all());
    await new Promise((resolve) => response.once("data", resolve));
    response.destroy();
    await sent;
    expect(pieces.isEnded).toBe(true);
    expect(pieces.asked).toBeLessThan(1000);
  });

  it("breaks off, with the reason, when a piece cannot be made", async () => {
    const reason = new Error("no more");
    async function* pieces() {
      yield Buffer.from("begun");
      throw reason;
    }
    const { response, sent } = await serve(way, pieces());
    const outcome = buffer(response).then(
      () => "whole",
      () => "broken off",
    );
    await expect(sent).rejects.toBe(reason);
    expect(await outcome).toBe("broken off");
  });

  it("lets others have their turn", async () => {
    const pieces = new Pieces(60);
    const { response, sent } = await serve(way, pieces.all());
    let turns = 0;
    let isSent = false;
    const count = () => {
      turns++;
      if (!isSent) setImmediate(count);
    };
    setImmediate(count);
    response.resume();
    await sent;
    isSent = true;
    expect(turns).toBeGreaterThan(50); // one or two for each piece
  });
});
