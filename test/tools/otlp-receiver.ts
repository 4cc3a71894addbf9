// OpenTelemetry's own receiver of metrics (otlp-receiver/main.go), as a process.

import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { freePort } from "./free-port.ts";
import { buildGoProgram } from "./go-program.ts";

/** OTLP's JSON: whole numbers of 64 bits are texts, enums numbers. https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding */
export interface TakenRequest {
  readonly resourceMetrics: readonly {
    readonly resource: { readonly attributes: readonly TakenAttribute[] };
    readonly scopeMetrics: readonly { readonly scope: object; readonly metrics: readonly TakenMetric[] }[];
  }[];
}

interface TakenAttribute {
  readonly key: string;
  readonly value: { readonly stringValue?: string };
}

export interface TakenMetric {
  readonly name: string;
  readonly unit?: string;
  readonly sum?: {
    readonly aggregationTemporality: number;
    readonly isMonotonic?: boolean;
    readonly dataPoints: TakenPoint[];
  };
  readonly gauge?: { readonly dataPoints: TakenPoint[] };
  readonly histogram?: { readonly aggregationTemporality: number; readonly dataPoints: TakenPoint[] };
}

export interface TakenPoint {
  readonly attributes?: readonly TakenAttribute[];
  readonly startTimeUnixNano?: string;
  readonly timeUnixNano: string;
  readonly asDouble?: number;
  readonly count?: string;
  readonly sum?: number;
  readonly bucketCounts?: readonly string[];
  readonly explicitBounds?: readonly number[];
}

export class OtlpMetricsReceiver {
  /** What it took, in order. */
  readonly requests: TakenRequest[] = [];

  private constructor(
    private readonly child: ChildProcess,
    /** By protocol: where OTLP goes. */
    readonly urls: Readonly<Record<"http/protobuf" | "grpc", string>>,
    private readonly metricsUrl: string,
  ) {}

  /** `refuse`: every so many requests one is refused for now. `missing` says why there is none. */
  static async start(
    refuse: number,
  ): Promise<{ receiver: OtlpMetricsReceiver; missing: null } | { receiver: null; missing: string }> {
    const { path, missing } = await buildGoProgram("test/tools/otlp-receiver", "otlp-receiver");
    if (path === null) return { receiver: null, missing };
    const [grpc, http, prometheus] = [await freePort(), await freePort(), await freePort()].map(
      (port) => `127.0.0.1:${port}`,
    ) as [string, string, string];
    const args = ["-grpc", grpc, "-http", http, "-prometheus", prometheus, "-refuse", String(refuse)];
    const child = spawn(path, args, { stdio: ["ignore", "pipe", "inherit"] });
    const urls = { grpc: `http://${grpc}`, "http/protobuf": `http://${http}/v1/metrics` };
    const receiver = new OtlpMetricsReceiver(child, urls, `http://${prometheus}/metrics`);
    createInterface({ input: child.stdout }).on("line", (line) => receiver.requests.push(JSON.parse(line)));
    await receiver.waitUntilReady();
    return { receiver, missing: null };
  }

  /** What its Prometheus exporter makes of it. */
  async metrics(): Promise<string> {
    return (await fetch(this.metricsUrl)).text();
  }

  async stop(): Promise<void> {
    if (this.child.exitCode !== null) return;
    this.child.kill("SIGTERM");
    await once(this.child, "close");
  }

  /** It listens for OTLP last, over HTTP. */
  private async waitUntilReady(): Promise<void> {
    for (let tries = 0; tries < 200 && this.child.exitCode === null; tries++) {
      const isUp = await fetch(this.urls["http/protobuf"]).then(
        () => true,
        () => false,
      );
      if (isUp) return;
      await sleep(50);
    }
    throw new Error("otlp-receiver did not start");
  }
}
