// A local mesh whose applications measure what they do, and what the collector's indicators say of it.

import { LABEL_NAMES, SUBJECT_KINDS } from "../../collector/indicators/subjects.ts";
import { DELAY_HEADER, FAULT_HEADER } from "../../demo/bookinfo.ts";
import { httpCall } from "../../demo/http-call.ts";
import type { Mesh } from "../../demo/mesh.ts";
import type { Exchange, TcpEdgeCount } from "../../demo/tally.ts";
import { RATINGS, type Workload } from "../../demo/topology.ts";
import { parseExposition, type Sample } from "./exposition.ts";
import { accountOf, type Call, callOf, callsThroughGateway, serviceOf, workloadNamed } from "./measured.ts";
import { settled, startTestMesh } from "./observed.ts";

const IN_PARALLEL = 24;

/** Latencies far from 500 ms and 2 s, where Apdex has its bounds, and errors that count on one side or on both. */
function ordersOf(i: number): NodeJS.Dict<string> {
  const faults = [
    ...(i % 10 === 0 ? ["ratings=503"] : []),
    ...(i % 25 === 0 ? ["details=500"] : []),
    ...(i % 40 === 7 ? ["details=404"] : []),
  ];
  const delays = [...(i % 50 === 3 ? ["reviews=1100"] : []), ...(i % 100 === 13 ? ["details=2700"] : [])];
  return {
    ...(faults.length > 0 && { [FAULT_HEADER]: faults.join(",") }),
    ...(delays.length > 0 && { [DELAY_HEADER]: delays.join(",") }),
  };
}

/** One of the answer of /api/v1/indicators. */
export interface Answered {
  /** Values of its labels. */
  readonly subject: readonly string[];
  readonly requests: number;
  readonly successRatio: number;
}

/** What was measured up to a moment, and what is shown of it. */
export interface Reading {
  readonly calls: readonly Call[];
  readonly tcp: readonly TcpEdgeCount[];
  readonly samples: readonly Sample[];
}

/** All that is asked of one mesh, and all that it said. */
export class MeasuredMesh {
  private constructor(
    readonly mesh: Mesh,
    /** As both ends of each measured them. */
    private readonly calls: Call[],
    private readonly callerOf: (caller: Workload) => string,
  ) {}

  /** Without the filter, servers know their callers by certificate alone. */
  static async start(filter: boolean): Promise<MeasuredMesh> {
    const calls: Call[] = [];
    const callerOf = filter ? serviceOf : accountOf;
    const onExchange = (exchange: Exchange) => calls.push(callOf(exchange, callerOf));
    const mesh = await startTestMesh({ scrape: false, faults: false, filter, onExchange });
    return new MeasuredMesh(mesh, calls, callerOf);
  }

  /** The caller that a server knows. */
  knownCaller(workload: string): string {
    return workload === "unknown" ? workload : this.callerOf(workloadNamed(workload));
  }

  async ask(path: string, headers: NodeJS.Dict<string> = {}, isRouted = true): Promise<void> {
    const since = process.hrtime.bigint();
    const { status, rawHeaders, body } = await this.mesh.request(path, headers);
    const latencyNs = Number(process.hrtime.bigint() - since);
    const exchange = { path, code: status, headersReceived: rawHeaders, bodyBytes: Buffer.byteLength(body), latencyNs };
    this.calls.push(...callsThroughGateway({ side: "client", source: "", destination: "", ...exchange }, isRouted));
  }

  async askPages(requests: number): Promise<void> {
    let next = 0;
    const client = async () => {
      for (let i = next++; i < requests; i = next++) await this.ask(`/productpage/${i % 20}?visit=${i}`, ordersOf(i));
    };
    await Promise.all(Array.from({ length: IN_PARALLEL }, client));
  }

  /** A call of a service that does not exist: productpage's sidecar answers by itself. */
  async askNobody(): Promise<void> {
    const outbound = this.mesh.workloads.find(({ name }) => name === "productpage-v1")?.outboundUrl;
    const { status, body } = await httpCall(`${outbound}/`, { host: "nowhere:9080" });
    const ends = { source: "productpage.default", destination: "nowhere.default", instance: null, endpoint: null };
    const bodyBytes = Buffer.byteLength(body);
    this.calls.push({ ...ends, point: "client", code: status, latencyNs: 0, receivedBytes: bodyBytes, bodyBytes });
  }

  /** The live window of every subject, by its kind. */
  async answers(): Promise<Record<string, readonly Answered[]>> {
    const answers = SUBJECT_KINDS.map(async (kind) => {
      const url = `${this.mesh.collector?.url}/api/v1/indicators?kind=${kind}&limit=1000`;
      const body = (await (await fetch(url)).json()) as Record<string, Record<string, unknown>[]>;
      const found = (body[`${kind}s`] ?? []).map((each) => ({
        subject: LABEL_NAMES[kind].map((label) => String(each[label])),
        requests: Number(each["requests"]),
        successRatio: Number(each["success_ratio"]),
      }));
      return [kind, found] as const;
    });
    return Object.fromEntries(await Promise.all(answers));
  }

  /** All that the collector shows of indicators. */
  async samples(): Promise<Sample[]> {
    const text = await (await fetch(`${this.mesh.collector?.url}/metrics`)).text();
    return parseExposition((text.match(/^(mesh|meshtally_indicator)_.*/gm) ?? []).join("\n"));
  }

  /** The same and what was measured, once all of it is there. */
  async reading(): Promise<Reading> {
    const tcp = this.mesh.tcpCounts();
    const totals = async () => (await this.samples()).filter(({ labels }) => labels["window"] === undefined);
    await settled(totals, (samples) => {
      const sum = (name: string) => Object.values(family(samples, name)).reduce((total, value) => total + value, 0);
      const tcpBytes = tcp.reduce((total, { source, sentBytes }) => total + sentBytes * sidesOf(source), 0);
      return (
        sum("mesh_service_requests_total") >= this.calls.length && sum("mesh_service_tcp_sent_bytes_total") >= tcpBytes
      );
    });
    return { calls: [...this.calls], tcp, samples: await this.samples() };
  }
}

/** A backup has no proxy of its own. */
export function sidesOf(caller: string): 1 | 2 {
  return caller === RATINGS.name ? 2 : 1;
}

/** Values of the series of one family by their labels, without those that are 0. */
export function family(samples: readonly Sample[], name: string): Record<string, number> {
  const found = samples.filter((sample) => sample.name === name && sample.value !== 0);
  return sorted(found.map(({ labels, value }) => [Object.values(labels).join(" "), value]));
}

export function sorted(entries: readonly [string, number][]): Record<string, number> {
  return Object.fromEntries([...entries].sort(([a], [b]) => (a < b ? -1 : 1)));
}
