// HttpTransport: POSTs batches to a URL: remote write, and OTLP over HTTP.

import http from "node:http";
import https from "node:https";
import { type ClientTls, readClientTls } from "../client/client-tls.ts";
import { type Access, readAccess } from "../client/secret.ts";
import type { Batch } from "./batch.ts";
import { DELIVERED, type Delivery, deliveryOf, type HttpAnswer, type Transport } from "./delivery.ts";

/** Of an answer no more is read. */
const MAX_ANSWER_BYTES = 64 * 1024;

export interface HttpTransportOptions {
  readonly url: string;
  /** Of the protocol. */
  readonly headers: Readonly<Record<string, string>>;
  readonly access: Access;
  readonly tls: ClientTls;
  /** Of one try, to the end of the answer. */
  readonly timeoutMs: number;
  /** Whether a batch is sent again after such an answer. */
  readonly isRetried: (status: number) => boolean;
  /** What a 2xx's body says; default: nothing. */
  readonly readAnswer?: (body: Buffer) => Delivery;
}

type Body = Batch["body"];

export class HttpTransport implements Transport {
  private agent: http.Agent | https.Agent | null = null;
  /** The PEM texts that `agent` uses. */
  private agentTls = "";

  constructor(private readonly options: HttpTransportOptions) {}

  async send(body: Body, signal: AbortSignal): Promise<Delivery> {
    const { access, timeoutMs, isRetried, readAnswer } = this.options;
    let headers: Record<string, string>;
    let hide = (text: string) => text;
    try {
      ({ headers, hide } = await readAccess(access));
      await this.prepareAgent();
    } catch (error: unknown) {
      return { kind: "retry", reason: "credentials", afterMs: 0, detail: messageOf(error) };
    }
    const timeout = AbortSignal.timeout(timeoutMs);
    try {
      const answer = await this.postTwice(body, headers, AbortSignal.any([signal, timeout]));
      const isTaken = answer.status >= 200 && answer.status < 300;
      const delivery = isTaken ? (readAnswer?.(answer.body) ?? DELIVERED) : deliveryOf(answer, isRetried, Date.now());
      return { ...delivery, detail: hide(delivery.detail) };
    } catch (error: unknown) {
      const reason = timeout.aborted ? "timeout" : "unreachable";
      const detail = timeout.aborted ? `no answer within ${timeoutMs} ms` : hide(messageOf(error));
      return { kind: "retry", reason, afterMs: 0, detail };
    }
  }

  close(): void {
    this.agent?.destroy();
  }

  /** A receiver may close a connection that was idle just when we write on it: that is no failure, and says nothing. */
  private async postTwice(body: Body, headers: Record<string, string>, signal: AbortSignal): Promise<HttpAnswer> {
    const answer = await this.post(body, headers, signal);
    return answer ?? ((await this.post(body, headers, signal)) as HttpAnswer);
  }

  /** Null when an idle connection was closed under it. */
  private post(body: Body, headers: Record<string, string>, signal: AbortSignal): Promise<HttpAnswer | null> {
    const { url } = this.options;
    const request = url.startsWith("https:") ? https.request : http.request;
    const all = { ...this.options.headers, ...headers, "content-length": String(body.length) };
    return new Promise((resolve, reject) => {
      const sent = request(url, { method: "POST", headers: all, agent: this.agent ?? false, signal }, (response) => {
        const { statusCode = 0, headers } = response;
        readBeginning(response).then((beginning) => {
          resolve({ status: statusCode, retryAfter: headers["retry-after"], body: beginning });
        }, reject);
      });
      sent.on("error", (error: NodeJS.ErrnoException) => {
        if (sent.reusedSocket && error.code === "ECONNRESET") resolve(null);
        else reject(error);
      });
      sent.end(body);
    });
  }

  /** Certificates are replaced while we run: the files are looked at each time, and new connections made when they changed. */
  private async prepareAgent(): Promise<void> {
    const { url, tls } = this.options;
    const { ca, certificate: cert, key, mark } = await readClientTls(tls);
    if (this.agent !== null && mark === this.agentTls) return;
    this.agent?.destroy();
    this.agentTls = mark;
    const common = { keepAlive: true, maxSockets: 1 };
    this.agent = url.startsWith("https:")
      ? new https.Agent({ ...common, ...(ca && { ca }), ...(cert && { cert }), ...(key && { key }) })
      : new http.Agent(common);
  }
}

/** An answer that does not end is cut, and its connection with it. What breaks off takes nothing from the status, which came. */
async function readBeginning(response: http.IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let length = 0;
  try {
    for await (const chunk of response as AsyncIterable<Buffer>) {
      chunks.push(chunk);
      length += chunk.length;
      if (length >= MAX_ANSWER_BYTES) break;
    }
  } catch (_brokenOff: unknown) {}
  return Buffer.concat(chunks).subarray(0, MAX_ANSWER_BYTES);
}

function messageOf(error: unknown): string {
  if (error instanceof AggregateError) return error.errors.map(messageOf).join("; "); // each address of a name was tried
  return error instanceof Error ? error.message : String(error);
}
