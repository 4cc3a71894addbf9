// What the applications of the mesh measured themselves, in the words of the indicators.

import type { Exchange } from "../../demo/tally.ts";
import { GATEWAY, podName, WORKLOADS, type Workload } from "../../demo/topology.ts";

/** The threshold of Apdex by default. */
const THRESHOLD_NS = 500e6;
/** What a proxy says to the next one alone, and adds by itself: no part of what it logs. */
const OF_THE_CONNECTION = ["connection", "keep-alive", "transfer-encoding"];

export type Point = "client" | "server";

/** A call as one of its ends saw it. */
export interface Call {
  readonly point: Point;
  readonly source: string;
  readonly destination: string;
  /** Of a server. */
  readonly instance: string | null;
  readonly endpoint: string | null;
  readonly code: number;
  readonly latencyNs: number;
  /** Headers and body of what it received: the request at a server, the answer at a client. */
  readonly receivedBytes: number;
  readonly bodyBytes: number;
}

export function serviceOf({ app, namespace }: Workload): string {
  return `${app}.${namespace}`;
}

/** What a caller is called that is known by its certificate alone: its account. */
export function accountOf({ serviceAccount, namespace }: Workload): string {
  return `${serviceAccount}.${namespace}`;
}

export function workloadNamed(name: string): Workload {
  const found = WORKLOADS.find((workload) => workload.name === name);
  if (found === undefined) throw new Error(`no workload ${name}`);
  return found;
}

/** `callerOf`: how servers know their callers. */
export function callOf(exchange: Exchange, callerOf: (caller: Workload) => string): Call {
  const { side, code, latencyNs, bodyBytes, path } = exchange;
  const source = workloadNamed(exchange.source);
  const common = { point: side, code, latencyNs, bodyBytes };
  if (side === "client") {
    const destination = `${exchange.destination}.default`;
    const receivedBytes = answerBytes(exchange);
    return { ...common, source: serviceOf(source), destination, instance: null, endpoint: null, receivedBytes };
  }
  const destination = workloadNamed(exchange.destination);
  return {
    ...common,
    source: callerOf(source),
    destination: serviceOf(destination),
    instance: instanceOf(destination),
    endpoint: endpointOf(path),
    receivedBytes: requestBytes(exchange),
  };
}

/** What a client outside of the mesh saw of the gateway: a call of it, and of what it called, unless it answered by itself. */
export function callsThroughGateway(exchange: Exchange, isRouted: boolean): Call[] {
  const { code, latencyNs, bodyBytes, path } = exchange;
  const common = { code, latencyNs, bodyBytes, receivedBytes: answerBytes(exchange) };
  const destination = serviceOf(GATEWAY);
  const own = {
    point: "server",
    source: "unknown",
    destination,
    instance: instanceOf(GATEWAY),
    endpoint: endpointOf(path),
  } as const;
  const onward = {
    point: "client",
    source: destination,
    destination: "productpage.default",
    instance: null,
    endpoint: null,
  } as const;
  return [{ ...common, ...own }, ...(isRouted ? [{ ...common, ...onward }] : [])];
}

function instanceOf(workload: Workload): string {
  return `${podName(workload)}.${workload.namespace}`;
}

function endpointOf(path: string): string {
  const [bare = ""] = path.split("?");
  return `GET:${bare.replace(/\/(\d+|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12})(?=\/|$)/g, "/{id}")}`;
}

/** As the proxy has it: HTTP/2's words for the request line and the host. */
function requestBytes({ headersReceived, path }: Exchange): number {
  return (
    headerBytes(headersReceived) +
    ":authority".length -
    "host".length +
    headerBytes([":method", "GET", ":path", path, ":scheme", "http"])
  );
}

function answerBytes({ headersReceived, bodyBytes, code }: Exchange): number {
  return headerBytes([":status", String(code), ...headersReceived]) + bodyBytes;
}

function headerBytes(raw: readonly string[]): number {
  let bytes = 0;
  for (let i = 0; i < raw.length; i += 2) {
    const [name = "", value = ""] = raw.slice(i, i + 2);
    if (!OF_THE_CONNECTION.includes(name.toLowerCase())) bytes += name.length + Buffer.byteLength(value);
  }
  return bytes;
}

/** A client's fault is none of the server's. */
export function isSuccess({ code }: Call, point: Point): boolean {
  return code < (point === "server" ? 500 : 400);
}

/** The value that a share `q` of them does not exceed, in seconds. */
export function quantile(calls: readonly Call[], q: number): number {
  const sorted = calls.map(({ latencyNs }) => latencyNs).sort((a, b) => a - b);
  return (sorted[Math.max(1, Math.ceil(q * sorted.length)) - 1] ?? Number.NaN) / 1e9;
}

export function totalSeconds(calls: readonly Call[]): number {
  return calls.reduce((sum, { latencyNs }) => sum + latencyNs, 0) / 1e9;
}

export function apdex(calls: readonly Call[], point: Point): number {
  const scores = calls.map((call) => {
    if (!isSuccess(call, point) || call.latencyNs > 4 * THRESHOLD_NS) return 0;
    return call.latencyNs <= THRESHOLD_NS ? 1 : 0.5;
  });
  return scores.reduce((sum: number, score) => sum + score, 0) / calls.length;
}
