// The memory of the compiled wasm, driven in the test host. It only ever grows, so that what it is at the end is the most it was.

import { readFileSync } from "node:fs";
import { filterWasmPath } from "../../envoy/project.ts";
import { HTTP_METRICS, HttpMetric } from "../../filter/vocabulary/metrics.ts";
import { Host, PLAIN_REQUEST, PLAIN_RESPONSE, type StreamOptions } from "../host/host.ts";
import { exchangeHeaders, FROM_PRODUCTPAGE, makeNode, PRODUCTPAGE, REVIEWS, TO_REVIEWS } from "../host/mesh.ts";

export const LABEL_SETS = 1000;
export const CHECKPOINTS = 10;

/** Between two checkpoints all of them come and go: more than the filter's tables of peers, clusters and keys hold. */
const CHURNING_PEERS = 10_000;
const CHURNING_HOSTS = 2500;
/** Peers that are there at one time. */
const LIVE_PEERS = 20;
const CODES = [200, 200, 200, 200, 301, 404, 500, 503];
/** Each checkpoint's part must see every peer, or the first tenth would not be like the others. */
export const MIN_CHURN_REQUESTS = CHURNING_PEERS * CHECKPOINTS;
/** How often the test host forgets the samples of histograms, which Envoy would not keep either. */
const FORGET_EVERY = 10_000;

const DIRECTIONS = ["inbound", "outbound"] as const;
type Direction = (typeof DIRECTIONS)[number];
type Headers = ReturnType<typeof exchangeHeaders>;

export interface LabelSetMemory {
  readonly direction: Direction;
  readonly bytes: number;
  /** Of one peer's two exchange headers. */
  readonly headerBytes: number;
}

/** Wasm memory once each of LABEL_SETS peers made a label set of its own. */
export function memoryAtLabelSets(): LabelSetMemory[] {
  return DIRECTIONS.map((direction) => {
    const host = start(direction);
    const peers = Array.from({ length: LABEL_SETS }, (_, index) => peerHeaders(index));
    for (const [index, peer] of peers.entries()) {
      host.request({ ...requestOf(direction, peer), responseCode: codeOf(index) });
    }
    const counted = host.series(HTTP_METRICS[HttpMetric.Requests]?.name).length;
    if (counted !== LABEL_SETS) throw new Error(`${counted} label sets instead of ${LABEL_SETS}`);
    const headerBytes = (peers.at(-1) ?? []).reduce((sum, [name, value]) => sum + name.length + value.length, 0);
    return { direction, bytes: host.memory.byteLength, headerBytes };
  });
}

export interface ChurnMemory {
  readonly direction: Direction;
  /** At each checkpoint. */
  readonly bytes: readonly number[];
  /** Requests that all label sets together counted. */
  readonly counted: number;
}

/** Wasm memory over so many requests, each way, whose peers, hosts, clusters and codes come and go. */
export function churnMemory(requests: number): ChurnMemory[] {
  const peers = Array.from({ length: CHURNING_PEERS }, (_, index) => peerHeaders(index));
  return DIRECTIONS.map((direction) => {
    const host = start(direction);
    const bytes: number[] = [];
    const part = Math.ceil(requests / CHECKPOINTS);
    for (let index = 0; index < requests; index++) {
      const oldest = Math.floor((index * CHURNING_PEERS) / part);
      const peer = peers[(oldest + (index % LIVE_PEERS)) % CHURNING_PEERS] as Headers;
      const service = Math.floor((index * CHURNING_HOSTS) / part) % CHURNING_HOSTS;
      host.request({ ...churningRequest(direction, peer, service), responseCode: codeOf(index) });
      if ((index + 1) % FORGET_EVERY === 0) forgetSamples(host);
      if ((index + 1) % part === 0 || index + 1 === requests) bytes.push(host.memory.byteLength);
    }
    const series = host.series(HTTP_METRICS[HttpMetric.Requests]?.name);
    return { direction, bytes, counted: series.reduce((sum, one) => sum + Number(one.value), 0) };
  });
}

/** Compiled once. */
let filterModule: WebAssembly.Module | undefined;

function start(direction: Direction): Host {
  const isInbound = direction === "inbound";
  filterModule ??= new WebAssembly.Module(readFileSync(filterWasmPath()));
  return new Host(filterModule, {
    node: isInbound ? REVIEWS : PRODUCTPAGE,
    direction,
    configuration: { direction, disable_host_header_fallback: isInbound, max_label_sets: LABEL_SETS },
  });
}

/** What a pod sends of itself: every one another workload, of names as long as real ones. */
function peerHeaders(index: number): Headers {
  return exchangeHeaders(makeNode(`checkout-service-${index}`, "v1", `10.1.${index >> 8}.${index & 255}`));
}

function requestOf(direction: Direction, peer: Headers): StreamOptions {
  return direction === "inbound"
    ? { ...FROM_PRODUCTPAGE, requestHeaders: [...PLAIN_REQUEST, ...peer] }
    : { ...TO_REVIEWS, responseHeaders: [...PLAIN_RESPONSE, ...peer] };
}

/** The host names the service, as there is no cluster metadata; cluster and route change with it. */
function churningRequest(direction: Direction, peer: Headers, service: number): StreamOptions {
  const authority = [":authority", `service-${service}.example.com`] as const;
  return {
    ...requestOf(direction, peer),
    requestHeaders: direction === "inbound" ? [authority, ...peer] : [authority],
    cluster: { name: `outbound|80||service-${service}.example.com` },
    routeName: `route-${service}`,
  };
}

function codeOf(index: number): number {
  return CODES[index % CODES.length] as number;
}

function forgetSamples(host: Host): void {
  for (const stat of host.stats.all()) stat.samples.length = 0;
}
