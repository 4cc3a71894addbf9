// The Envoy that is benched: one process, one worker, one listener per variant, all in front of the same upstream.

import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { type Config, socketAddress, statsConfig } from "../../demo/telemetry-config.ts";
import { findEnvoy } from "../../envoy/binary.ts";
import { freePorts, LOCALHOST } from "./load.ts";

const READY_TRIES = 100;
const READY_PAUSE_MS = 100;
/** Of the upstream. */
export const CLUSTER = "outbound|80||reviews.default.svc.cluster.local";

/** One way to count requests, on a listener of its own. */
export interface Variant {
  readonly name: string;
  readonly direction: "INBOUND" | "OUTBOUND";
  readonly filter?: Config;
  readonly accessLog?: Config;
  /** For TCP: all filters of the chain, in place of the connection manager. */
  readonly networkFilters?: readonly Config[];
}

/** About what a pod of bookinfo says of itself, so that header and label sizes are real. */
const NODE = {
  id: "sidecar~127.0.0.1~productpage-v1-6b746f74dc-9rlmh.default~default.svc.cluster.local",
  cluster: "productpage.default",
  metadata: {
    NAME: "productpage-v1-6b746f74dc-9rlmh",
    NAMESPACE: "default",
    WORKLOAD_NAME: "productpage-v1",
    CLUSTER_ID: "Kubernetes",
    OWNER: "kubernetes://apis/apps/v1/namespaces/default/deployments/productpage-v1",
    LABELS: {
      app: "productpage",
      version: "v1",
      "service.istio.io/canonical-name": "productpage",
      "service.istio.io/canonical-revision": "v1",
    },
  },
};

/** As istiod describes the cluster; without it, the authority names the service. */
export const SERVICE_METADATA: Config = {
  filter_metadata: {
    istio: { services: [{ host: "reviews.default.svc.cluster.local", name: "reviews", namespace: "default" }] },
  },
};

export class BenchEnvoy {
  private constructor(
    /** One per variant. */
    readonly ports: readonly number[],
    private readonly adminUrl: string,
    private readonly process: ChildProcess,
    private readonly folder: string,
  ) {}

  /** Resolves when it is ready. `clusterMetadata`: of the upstream's cluster. */
  static async start(
    variants: readonly Variant[],
    upstreamPort: number,
    clusterMetadata: Config = {},
  ): Promise<BenchEnvoy> {
    const [adminPort = 0, ...ports] = await freePorts(variants.length + 1);
    const folder = mkdtempSync(join(tmpdir(), "meshtally-bench-"));
    const file = join(folder, "envoy.json");
    writeFileSync(
      file,
      JSON.stringify({
        node: NODE,
        admin: { address: local(adminPort) },
        stats_config: statsConfig(),
        static_resources: {
          listeners: variants.map((variant, i) => listenerConfig(variant, ports[i] as number)),
          clusters: [clusterConfig(upstreamPort, clusterMetadata)],
        },
      }),
    );
    const envoy = spawn(
      await findEnvoy(),
      ["-c", file, "--concurrency", "1", "--use-dynamic-base-id", "--log-level", "error"],
      { stdio: ["ignore", "inherit", "inherit"] },
    );
    const started = new BenchEnvoy(ports, `http://${LOCALHOST}:${adminPort}`, envoy, folder);
    try {
      await started.waitUntilReady();
    } catch (error) {
      started.stop();
      throw error;
    }
    return started;
  }

  get pid(): number {
    return this.process.pid as number;
  }

  /** Lines of /stats/prometheus whose stat names match `filter`, without comments. */
  async stats(filter: string): Promise<string[]> {
    const query = new URLSearchParams({ filter });
    const answer = await fetch(`${this.adminUrl}/stats/prometheus?${query}`);
    const text = await answer.text();
    return text.split("\n").filter((line) => line.length > 0 && !line.startsWith("#"));
  }

  stop(): void {
    this.process.kill("SIGKILL");
    rmSync(this.folder, { recursive: true });
  }

  private async waitUntilReady(): Promise<void> {
    for (let tries = 0; tries < READY_TRIES; tries++) {
      if (this.process.exitCode !== null) throw new Error(`Envoy ended with exit code ${this.process.exitCode}`);
      const isReady = await fetch(`${this.adminUrl}/ready`).then(
        (answer) => answer.ok,
        () => false,
      );
      if (isReady) return;
      await sleep(READY_PAUSE_MS);
    }
    throw new Error(`Envoy was not ready within ${(READY_TRIES * READY_PAUSE_MS) / 1000} s`);
  }
}

function local(port: number): Config {
  return socketAddress(`${LOCALHOST}:${port}`);
}

function listenerConfig(variant: Variant, port: number): Config {
  const { name, direction, networkFilters } = variant;
  const filters = networkFilters ?? [connectionManager(variant, port)];
  return { name, traffic_direction: direction, address: local(port), filter_chains: [{ filters }] };
}

function connectionManager({ filter, accessLog }: Variant, port: number): Config {
  const router = {
    name: "envoy.filters.http.router",
    typed_config: { "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router" },
  };
  return {
    name: "envoy.filters.network.http_connection_manager",
    typed_config: {
      "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
      stat_prefix: `bench_${port}`,
      route_config: {
        virtual_hosts: [
          { name: "all", domains: ["*"], routes: [{ match: { prefix: "/" }, route: { cluster: CLUSTER } }] },
        ],
      },
      http_filters: filter ? [filter, router] : [router],
      access_log: accessLog ? [accessLog] : [],
    },
  };
}

function clusterConfig(upstreamPort: number, metadata: Config): Config {
  return {
    name: CLUSTER,
    type: "STATIC",
    metadata,
    load_assignment: {
      cluster_name: CLUSTER,
      endpoints: [{ lb_endpoints: [{ endpoint: { address: local(upstreamPort) } }] }],
    },
  };
}
