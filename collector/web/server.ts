// The HTTP side: metrics, API, health. GET and HEAD only; it changes nothing.

import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { createServer as createTlsServer } from "node:https";
import type { AddressInfo } from "node:net";
import type { AiMetrics } from "../ai/metrics.ts";
import type { SuccessPolicies } from "../analysis/policy.ts";
import { renderCompleteness } from "../completeness/exposition.ts";
import { CollectorError } from "../error.ts";
import type { AddressLookup } from "../identity/lookup.ts";
import { expositionSpans, renderIndicators } from "../indicators/exposition.ts";
import type { Span } from "../indicators/slots.ts";
import type { Log } from "../log.ts";
import type { LogStore } from "../logs/store.ts";
import type { OtlpLogCounts } from "../otlp/logs.ts";
import type { ProxyStats } from "../proxy-stats/proxy-stats.ts";
import type { MetricsAccounts } from "../receiver/metrics-accounts.ts";
import { renderTargets } from "../receiver/scrape/exposition.ts";
import type { ScrapeStatus } from "../receiver/scrape.ts";
import type { Holdings, SelfMetrics } from "../self.ts";
import type { DestinationRule } from "../series/unified.ts";
import type { ServiceGraph } from "../service-graph/graph.ts";
import type { MetricsReading, Readings } from "../shards/shards.ts";
import type { ServerTls } from "../tls/server-tls.ts";
import { type Answer, failure, readGraph } from "./api.ts";
import { Cardinality } from "./cardinality.ts";
import { Exposition } from "./exposition/exposition.ts";
import { TrafficFamilies } from "./exposition/families.ts";
import { acceptsGzip, CONTENT_TYPES, negotiateFormat } from "./exposition/format.ts";
import { send, sendPacked } from "./exposition/send.ts";
import { readIdentity } from "./identity.ts";
import { readIndicators } from "./indicators.ts";
import { readLogs } from "./logs.ts";
import { readReceivers } from "./receivers.ts";
import type { Taps } from "./tap.ts";

const MAX_CONNECTIONS = 512;
/** A connection over which nothing went for so long is closed, so a reader that stalls cannot hold /metrics open. */
const IDLE_TIMEOUT_MS = 30_000;
/** Expositions written at the same moment. */
const MAX_EXPOSITIONS = 8;

export interface WebOptions {
  readonly host: string;
  /** 0 picks a free one. */
  readonly port: number;
  /** Default: plaintext. */
  readonly tls?: ServerTls | null;
  /** What a service's health is judged by. */
  readonly policies: SuccessPolicies;
  /** All that was counted. */
  readonly readings: Readings;
  /** Which reports of destinations count in mesh_*. */
  readonly destinationRule: DestinationRule;
  /** Whether label sets have pods. */
  readonly hasPods: boolean;
  /** Most label sets that are held. */
  readonly labelSets: number;
  /** By HttpMetric, the bounds of its histogram that are shown. */
  readonly buckets: readonly (readonly number[])[];
  readonly graph: ServiceGraph;
  readonly taps: Taps;
  /** Null: access logs are not kept. */
  readonly logs: LogStore | null;
  /** Who is behind an address. */
  readonly identities: AddressLookup;
  readonly scrapeStatuses: () => readonly ScrapeStatus[];
  readonly metricsAccounts: MetricsAccounts;
  /** Null: not shown. */
  readonly proxyStats: ProxyStats | null;
  /** What came of log records of OTLP. */
  readonly otlpLogs: () => OtlpLogCounts;
  /** What AI gateways told. */
  readonly ai: Pick<AiMetrics, "render">;
  readonly self: SelfMetrics;
  /** What is not ready yet; empty when all is. */
  readonly pending: () => readonly string[];
  readonly version: string;
  readonly log: Log;
}

export class WebServer {
  private readonly server: Server;
  private readonly families: TrafficFamilies;
  private readonly exposition: Exposition;
  private readonly cardinality: Cardinality;
  private expositions = 0;

  constructor(private readonly options: WebOptions) {
    const { readings, destinationRule, buckets, hasPods, labelSets } = options;
    this.families = new TrafficFamilies(readings.series, destinationRule, buckets, hasPods);
    this.exposition = new Exposition(this.families);
    this.cardinality = new Cardinality(readings.series, destinationRule, labelSets, buckets, hasPods);
    this.server = this.createServer(options.tls ?? null);
    this.server.maxConnections = MAX_CONNECTIONS;
    this.server.timeout = IDLE_TIMEOUT_MS;
  }

  /** What mesh_* leave out because nobody can know whether it is counted already. */
  get leftOut(): Holdings["leftOut"] {
    return this.families.leftOut();
  }

  get proxyStatsHeld(): Holdings["proxyStats"] {
    const { proxyStats } = this.options;
    return { series: proxyStats?.size ?? 0, refused: proxyStats?.refused ?? 0 };
  }

  private createServer(tls: ServerTls | null): Server {
    const serve = (request: IncomingMessage, response: ServerResponse) => this.serve(request, response);
    if (tls === null) return createServer(serve);
    const server = createTlsServer(tls.serverOptions, serve);
    tls.serve(server);
    return server;
  }

  /** Resolves to the port; rejects when the address cannot be listened on. */
  start(): Promise<number> {
    const { host, port } = this.options;
    return new Promise((resolve, reject) => {
      this.server.once("error", (error) => {
        reject(
          new CollectorError("unavailable", `cannot listen for HTTP on ${host}:${port}: ${error.message}`, {
            cause: error,
          }),
        );
      });
      this.server.listen(port, host, () => resolve((this.server.address() as AddressInfo).port));
    });
  }

  /** Takes no new connection; answers under way may be read to their end, for `graceMs` at most. Taps end now. */
  async stop(graceMs: number): Promise<void> {
    this.options.taps.stop();
    const timer = setTimeout(() => {
      this.server.closeAllConnections();
      this.options.tls?.stop(); // those, too, whose handshake has not come to its end
    }, graceMs);
    await new Promise<void>((resolve) => {
      this.server.close(() => resolve());
      this.server.closeIdleConnections();
    });
    clearTimeout(timer);
    this.options.tls?.stop();
  }

  private serve(request: IncomingMessage, response: ServerResponse): void {
    this.answer(request, response).catch((error: unknown) => {
      // A client that leaves before the end is no fault of anyone.
      if (response.destroyed) return;
      if (error instanceof CollectorError && error.code === "unavailable" && !response.headersSent) {
        sendJson(response, failure(503, error.code, error.message));
        return;
      }
      this.options.log.error({ err: error, path: request.url }, "request failed");
      if (response.headersSent) response.destroy();
      else sendJson(response, failure(500, "internal", "the request failed; the log has the reason"));
    });
  }

  private async answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const [path = "", query = ""] = (request.url ?? "").split("?", 2);
    const route = this.routes[path];
    if (!route) {
      const expected = Object.keys(this.routes).join(", ");
      sendJson(response, failure(404, "not_found", `there is no such path; there are ${expected}`));
    } else if (request.method !== "GET" && request.method !== "HEAD") {
      response.setHeader("allow", "GET, HEAD");
      sendJson(response, failure(405, "method_not_allowed", "expected GET or HEAD"));
    } else {
      await route(request, response, new URLSearchParams(query));
    }
  }

  private readonly routes: Readonly<
    Record<string, (request: IncomingMessage, response: ServerResponse, query: URLSearchParams) => Promise<void> | void>
  > = {
    "/metrics": (request, response) => this.sendMetrics(request, response),
    "/api/v1/graph": async (_, response, query) => {
      await this.options.readings.refresh();
      sendJson(response, readGraph(this.options.graph, await this.options.readings.completeness(), query));
    },
    "/api/v1/indicators": async (_, response, query) => {
      sendJson(response, await readIndicators(this.options.readings, query, Date.now(), this.options.policies));
    },
    "/api/v1/tap": (request, response, query) => this.tap(request, response, query),
    "/api/v1/logs": async (_, response, query) => sendJson(response, await readLogs(this.options.logs, query)),
    "/api/v1/receivers": async (_, response, query) => {
      const { readings, scrapeStatuses, metricsAccounts, otlpLogs } = this.options;
      const [accounts, completeness] = await Promise.all([readings.accounts(), readings.completeness()]);
      sendJson(
        response,
        readReceivers(
          { accounts, scrapes: scrapeStatuses(), otlp: otlpLogs(), metrics: metricsAccounts, completeness },
          query,
        ),
      );
    },
    "/api/v1/cardinality": async (_, response, query) => {
      const { holdings } = await this.options.readings.metrics([]);
      sendJson(response, await this.cardinality.read(query, holdings));
    },
    "/api/v1/identity": (_, response, query) => sendJson(response, readIdentity(this.options.identities, query)),
    "/livez": (_, response) => sendText(response, 200, "ok\n"),
    "/readyz": (_, response) => this.sendReadiness(response),
    "/healthz": (_, response) => this.sendReadiness(response),
    "/version": (_, response) => {
      sendJson(response, { status: 200, body: { version: this.options.version, node_version: process.version } });
    },
  };

  private tap(request: IncomingMessage, response: ServerResponse, query: URLSearchParams): void {
    const refusal = this.options.taps.serve(request, response, query);
    if (refusal !== null) sendJson(response, refusal);
  }

  private sendReadiness(response: ServerResponse): void {
    const pending = this.options.pending();
    if (pending.length === 0) sendText(response, 200, "ok\n");
    else sendText(response, 503, `not ready: ${pending.join(", ")}\n`);
  }

  private async sendMetrics(request: IncomingMessage, response: ServerResponse): Promise<void> {
    if (this.expositions >= MAX_EXPOSITIONS) {
      sendJson(response, failure(503, "limit_exceeded", `more than ${MAX_EXPOSITIONS} readers of /metrics at once`));
      return;
    }
    this.expositions++;
    try {
      await this.writeMetrics(request, response);
    } finally {
      this.expositions--;
    }
  }

  private async writeMetrics(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const format = negotiateFormat(request.headers.accept);
    const isPacked = acceptsGzip(String(request.headers["accept-encoding"] ?? ""));
    const spans = expositionSpans(Date.now());
    const reading = await this.options.readings.metrics(spans); // before the head, which would promise an answer
    response.setHeader("content-type", CONTENT_TYPES[format]);
    response.setHeader("vary", "accept, accept-encoding");
    if (isPacked) response.setHeader("content-encoding", "gzip");
    if (request.method === "HEAD") {
      response.end();
      return;
    }
    const { self, graph, proxyStats, ai } = this.options;
    const { holdings, others } = reading;
    const held = () => {
      const { leftOut, proxyStatsHeld } = this;
      return { ...holdings, edges: graph.edgeCount, leftOut, proxyStats: proxyStatsHeld };
    };
    const pieces = this.exposition.render(format, {
      measures: measures(reading, spans, this.options.scrapeStatuses(), ai),
      proxyStats,
      self: () => self.render(held(), others),
    });
    await (isPacked ? sendPacked(pieces, response) : send(pieces, response));
  }
}

/** What is derived from the counts, and known of where they come from, as text. */
function* measures(
  { subjects, completeness }: MetricsReading,
  spans: readonly Span[],
  scrapes: readonly ScrapeStatus[],
  ai: Pick<AiMetrics, "render">,
): Generator<string> {
  yield* renderIndicators(subjects, spans);
  yield* renderCompleteness(completeness);
  yield* renderTargets(scrapes);
  yield* ai.render();
}

function sendText(response: ServerResponse, status: number, text: string): void {
  response.writeHead(status, {
    "content-type": "text/plain; charset=utf-8",
    "content-length": Buffer.byteLength(text),
  });
  response.end(text);
}

function sendJson(response: ServerResponse, { status, body }: Answer): void {
  const text = `${JSON.stringify(body)}\n`;
  response.writeHead(status, {
    "content-type": "application/json",
    "content-length": Buffer.byteLength(text),
    "x-content-type-options": "nosniff", // names in it are the proxies', so anything
  });
  response.end(text);
}
