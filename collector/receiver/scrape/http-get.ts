// GETs a URL and hands on the unpacked body as it comes, within limits.

import http from "node:http";
import https from "node:https";
import { createGunzip } from "node:zlib";
import type { ScrapeResult } from "../../self.ts";

/** Why a reading came to nothing. */
export class ScrapeFault extends Error {
  constructor(
    readonly result: ScrapeResult,
    message: string,
    options?: { cause?: unknown },
  ) {
    super(message, options);
  }
}

export interface GetOptions {
  readonly url: string;
  readonly agents: Agents;
  readonly headers: http.OutgoingHttpHeaders;
  /** Longest body, unpacked. */
  readonly maxBytes: number;
  readonly signal: AbortSignal;
  /** What takes the body, by its Content-Type, "" if it has none; may throw ScrapeFault. */
  readonly open: (contentType: string) => (chunk: Buffer) => void;
}

/** Connections are kept: one for each target, for as long as it is asked again within `idleMs`. */
export class Agents {
  private readonly http: http.Agent;
  private readonly https: https.Agent;

  constructor(idleMs: number) {
    const options = { keepAlive: true, maxFreeSockets: 1, timeout: idleMs };
    this.http = new http.Agent(options);
    this.https = new https.Agent(options);
  }

  of(url: string): http.Agent {
    return url.startsWith("https:") ? this.https : this.http;
  }

  destroy(): void {
    this.http.destroy();
    this.https.destroy();
  }
}

/** Rejects with ScrapeFault: unreachable, http_status, too_large, malformed. */
export async function get(options: GetOptions): Promise<void> {
  const response = await request(options);
  const path = new URL(options.url).pathname;
  if (response.statusCode !== 200) {
    response.destroy(); // not read to its end: it may have none
    throw new ScrapeFault("http_status", `${path} answered ${response.statusCode}`);
  }
  const isPacked = response.headers["content-encoding"] === "gzip";
  const body = isPacked ? response.pipe(createGunzip()) : response;
  if (isPacked) response.on("error", (error) => body.destroy(error));
  let bytes = 0;
  try {
    const take = options.open(response.headers["content-type"] ?? "");
    for await (const chunk of body as AsyncIterable<Buffer>) {
      bytes += chunk.length;
      if (bytes > options.maxBytes)
        throw new ScrapeFault("too_large", `${path} is longer than ${options.maxBytes} bytes`);
      take(chunk);
    }
  } catch (error: unknown) {
    response.destroy();
    throw error instanceof ScrapeFault ? error : bodyFault(error);
  }
}

function request({ url, agents, headers, signal }: GetOptions): Promise<http.IncomingMessage> {
  const client = url.startsWith("https:") ? https : http;
  const all = { "accept-encoding": "gzip", "user-agent": "meshtally", ...headers };
  return new Promise((resolve, reject) => {
    const sent = client.get(url, { agent: agents.of(url), headers: all, signal }, resolve);
    sent.on("error", (error) => reject(new ScrapeFault("unreachable", error.message, { cause: error })));
  });
}

/** zlib's errors have codes such as Z_DATA_ERROR; every other one is the connection's. */
function bodyFault(error: unknown): ScrapeFault {
  const { code = "", message = String(error) } = error as NodeJS.ErrnoException;
  return new ScrapeFault(code.startsWith("Z_") ? "malformed" : "unreachable", message, { cause: error });
}
