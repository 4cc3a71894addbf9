// Targets from HTTP servers, as Prometheus' `http_sd_configs`: asked every interval. An answer that is none leaves that server's former
// targets in force, is counted, and told with URL and reason.
// https://prometheus.io/docs/prometheus/latest/http_sd/

import { setTimeout as sleep } from "node:timers/promises";
import type { FreshClientTls } from "../../client/client-tls.ts";
import { type Access, readAccess } from "../../client/secret.ts";
import { CollectorError } from "../../error.ts";
import type { DiscoveryReport } from "./discovery.ts";
import { Agents, get, ScrapeFault } from "./http-get.ts";
import { readTargetGroups } from "./target-groups.ts";
import type { TargetSpec } from "./target-spec.ts";

const MAX_BYTES = 16 * 2 ** 20;
const TIMEOUT_MS = 10_000;
const JSON_TYPE = /^application\/json\b/;
/** Servers are asked so much earlier or later than the interval says. */
const JITTER = 0.1;

export interface HttpSdOptions {
  readonly urls: readonly string[];
  readonly access: Access;
  readonly tls: FreshClientTls | null;
  readonly intervalMs: number;
  readonly onChange: () => void;
  readonly report: DiscoveryReport;
}

interface Known {
  /** The answer: the same one changes nothing. */
  readonly text: string;
  readonly specs: readonly TargetSpec[];
}

export class HttpSd {
  private readonly known = new Map<string, Known>();
  private readonly stopping = new AbortController();
  private readonly agents: Agents;
  private loops: Promise<void>[] = [];

  constructor(private readonly options: HttpSdOptions) {
    this.agents = new Agents(2 * options.intervalMs, options.tls);
  }

  get specs(): readonly TargetSpec[] {
    return this.options.urls.flatMap((url) => this.known.get(url)?.specs ?? []);
  }

  /** Whether each server has answered once. */
  get isComplete(): boolean {
    return this.options.urls.every((url) => this.known.has(url));
  }

  /** Resolves when each server was asked once, with or without success. */
  async start(): Promise<void> {
    const firstTries = this.options.urls.map((url) => this.ask(url));
    this.loops = firstTries.map((firstTry, index) => this.repeat(this.options.urls[index] as string, firstTry));
    await Promise.all(firstTries);
  }

  async stop(): Promise<void> {
    this.stopping.abort();
    await Promise.all(this.loops);
    this.agents.destroy();
  }

  private async repeat(url: string, firstTry: Promise<void>): Promise<void> {
    const { signal } = this.stopping;
    await firstTry;
    while (!signal.aborted) {
      const ms = this.options.intervalMs * (1 + JITTER * (2 * Math.random() - 1));
      await sleep(ms, undefined, { signal }).catch(() => {}); // it is stopped
      if (!signal.aborted) await this.ask(url);
    }
  }

  /** Never rejects. */
  private async ask(url: string): Promise<void> {
    const { report, onChange } = this.options;
    try {
      const text = await this.read(url);
      if (text !== this.known.get(url)?.text) {
        this.known.set(url, { text, specs: readTargetGroups(parseJson(text)) });
        onChange();
      }
      report.count("http_sd", "ok");
    } catch (error: unknown) {
      if (!this.stopping.signal.aborted) report.fail("http_sd", url.split("?", 1)[0] as string, error);
    }
  }

  private async read(url: string): Promise<string> {
    const chunks: Buffer[] = [];
    const interval = String(Math.max(1, Math.round(this.options.intervalMs / 1000)));
    const { headers } = await readAccess(this.options.access);
    await get({
      url,
      agents: this.agents,
      headers: { ...headers, accept: "application/json", "x-prometheus-refresh-interval-seconds": interval },
      maxBytes: MAX_BYTES,
      signal: AbortSignal.any([this.stopping.signal, AbortSignal.timeout(TIMEOUT_MS)]),
      open: (contentType) => {
        if (JSON_TYPE.test(contentType)) return (chunk) => chunks.push(chunk);
        throw new ScrapeFault("malformed", `its Content-Type is ${contentType}, expected application/json`);
      },
    });
    return Buffer.concat(chunks).toString("utf8");
  }
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error: unknown) {
    throw new CollectorError("message_malformed", error instanceof Error ? error.message : String(error), {
      cause: error,
    });
  }
}
