// GETs a URL and hands on the unpacked body as it comes, within limits.

import http from "node:http";
import https from "node:https";
import type { SecureContext } from "node:tls";
import { createGunzip } from "node:zlib";
import type { FreshClientTls } from "../../client/client-tls.ts";
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
  private readonly options: http.AgentOptions;
  private readonly http: http.Agent;
  private https: https.Agent;
  /** That `https` connects with; null: Node's own. */
  private secureContext: SecureContext | null = null;
  /** The one before, whose answers may still be under way; idle connections of it end by themselves. */
  private former: https.Agent | null = null;

  /** `tls`: null for Node's authorities, and no certificate of ours. */
  constructor(
    idleMs: number,
    private readonly tls: FreshClientTls | null,
  ) {
    this.options = { keepAlive: true, maxFreeSockets: 1, timeout: idleMs };
    this.http = new http.Agent(this.options);
    this.https = new https.Agent(this.options);
  }

  /** Rejects with ScrapeFault `unreachable` when there are no certificates to connect with. */
  async of(url: string): Promise<http.Agent> {
    if (!url.startsWith("https:")) return this.http;
    if (this.tls !== null) this.use(await this.tls.current().catch(tlsFault));
    return this.https;
  }

  destroy(): void {
    this.http.destroy();
    this.https.destroy();
    this.former?.destroy();
  }

  private use(secureContext: SecureContext): void {
    if (secureContext === this.secureContext) return;
    this.secureContext = secureContext;
    this.former?.destroy();
    this.former = this.https;
    this.https = new https.Agent({ ...this.options, secureContext });
  }
}

/** Rejects with ScrapeFault: unreachable, http_status, too_large, malformed. */
export async function get(options: GetOptions): Promise<void> {
  const response = await request(options, await options.agents.of(options.url));
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

function request({ url, headers, signal }: GetOptions, agent: http.Agent): Promise<http.IncomingMessage> {
  const client = url.startsWith("https:") ? https : http;
  const all = { "accept-encoding": "gzip", "user-agent": "meshtally", ...headers };
  return new Promise((resolve, reject) => {
    const sent = client.get(url, { agent, headers: all, signal }, resolve);
    sent.on("error", (error) => reject(new ScrapeFault("unreachable", error.message, { cause: error })));
  });
}

function tlsFault(error: unknown): never {
  throw new ScrapeFault("unreachable", error instanceof Error ? error.message : String(error), { cause: error });
}

/** zlib's errors have codes such as Z_DATA_ERROR; every other one is the connection's. */
function bodyFault(error: unknown): ScrapeFault {
  const { code = "", message = String(error) } = error as NodeJS.ErrnoException;
  return new ScrapeFault(code.startsWith("Z_") ? "malformed" : "unreachable", message, { cause: error });
}
