// GET /api/v1/tap: analysed access-log entries as they come, one side of one entry a line. As NDJSON, or as server-sent events.
//
// A reader that is slow loses lines and is told how many; it slows nobody. While there is no reader, no line is made.

import type { IncomingMessage, ServerResponse } from "node:http";
import { Analyser } from "../analysis/analyse.ts";
import { type Filter, parseFilter } from "../analysis/filter.ts";
import type { Side } from "../analysis/side.ts";
import type { AlsMessage } from "../proto/als.ts";
import type { Sender } from "../resolver/attribution.ts";
import type { SelfMetrics } from "../self.ts";
import { type Answer, failure } from "./api.ts";

/** What is held for a reader until it reads on, besides what the system holds. */
const MAX_BUFFERED_BYTES = 256 * 1024;
/** Tells readers that are gone without a word. */
const KEEP_ALIVE_MS = 30_000;

const EVENT_STREAM = "text/event-stream";

export class Taps {
  /** Whether anybody reads: what the receiver asks. */
  isActive = false;
  private readonly readers = new Set<Reader>();

  constructor(
    private readonly limit: number,
    private readonly self: SelfMetrics,
    private readonly analyser = new Analyser(),
  ) {}

  /** The message's entries, for those who read. */
  take(bytes: Buffer, { httpEntries, tcpEntries }: AlsMessage, sender: Sender): void {
    const { analyser } = this;
    for (let i = 0; i + 1 < httpEntries.length; i += 2) {
      this.offer(analyser.analyseHttp(bytes, httpEntries[i] as number, httpEntries[i + 1] as number, sender));
    }
    for (let i = 0; i + 1 < tcpEntries.length; i += 2) {
      this.offer(analyser.analyseTcp(bytes, tcpEntries[i] as number, tcpEntries[i + 1] as number, sender));
    }
    for (const reader of this.readers) reader.flush();
  }

  /** Makes the response a tap; or else says why not. */
  serve(request: IncomingMessage, response: ServerResponse, query: URLSearchParams): Answer | null {
    const filter = parseFilter(query);
    if (typeof filter === "string") return failure(400, "bad_request", filter);
    if (this.readers.size >= this.limit) {
      return failure(503, "limit_exceeded", `more than ${this.limit} taps at once (limits.taps): end one of them`);
    }
    const isEvents = (request.headers.accept ?? "").toLowerCase().includes(EVENT_STREAM);
    response.writeHead(200, {
      "content-type": isEvents ? EVENT_STREAM : "application/x-ndjson",
      "cache-control": "no-store",
      connection: "close",
      vary: "accept",
    });
    if (request.method === "HEAD") {
      response.end();
      return null;
    }
    response.flushHeaders();
    request.socket.setTimeout(0); // a tap may be silent for long
    request.socket.setKeepAlive(true, KEEP_ALIVE_MS);
    this.add(new Reader(response, filter, isEvents, () => this.self.tapLinesLost.inc()), response);
    return null;
  }

  /** Ends all taps. */
  stop(): void {
    for (const reader of this.readers) reader.end();
  }

  private add(reader: Reader, response: ServerResponse): void {
    if (!this.isActive) this.analyser.restart();
    this.readers.add(reader);
    this.isActive = true;
    this.self.taps.inc();
    response.on("close", () => {
      this.readers.delete(reader);
      this.self.taps.dec();
      this.isActive = this.readers.size > 0;
    });
  }

  private offer(sides: readonly Side[]): void {
    for (const side of sides) {
      let line = ""; // made once, if anybody wants it
      for (const reader of this.readers) {
        if (!reader.filter(side)) continue;
        line ||= JSON.stringify(side);
        reader.offer(line);
      }
    }
  }
}

/** One who reads. Lines of one message are sent together. */
class Reader {
  private pending = "";
  private lost = 0;

  constructor(
    private readonly response: ServerResponse,
    readonly filter: Filter,
    private readonly isEvents: boolean,
    private readonly onLost: () => void,
  ) {
    response.on("drain", () => this.tellLost());
    response.on("error", () => response.destroy()); // the connection broke: `close` follows
  }

  /** Takes the line, or counts it as lost: from the first that found no room until all that is held was read. */
  offer(line: string): void {
    const held = this.response.writableLength + this.pending.length + line.length;
    if (this.lost === 0 && held <= MAX_BUFFERED_BYTES) {
      this.pending += this.frame(line);
      return;
    }
    this.lost++;
    this.onLost();
  }

  flush(): void {
    if (this.pending === "") return;
    this.response.write(this.pending);
    this.pending = "";
  }

  end(): void {
    if (this.lost > 0) this.pending += this.frame(JSON.stringify({ lost: this.lost }));
    this.flush();
    this.response.end();
  }

  private tellLost(): void {
    if (this.lost === 0) return;
    this.response.write(this.frame(JSON.stringify({ lost: this.lost })));
    this.lost = 0;
  }

  private frame(line: string): string {
    return this.isEvents ? `data: ${line}\n\n` : `${line}\n`;
  }
}
