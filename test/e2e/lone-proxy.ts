// One real Envoy with the filter, inbound and outbound, before a server of ours; its access log goes to a receiver in this process.
// For what a whole mesh would only make slower to see.

import { mkdtemp, writeFile } from "node:fs/promises";
import { createServer, type IncomingHttpHeaders } from "node:http";
import { type AddressInfo, connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type AlsOptions, AlsReceiver } from "../../collector/receiver/als.ts";
import { GrpcServer } from "../../collector/receiver/grpc.ts";
import type { AccessRecord } from "../../collector/record/record.ts";
import { SelfMetrics } from "../../collector/self.ts";
import { EnvoyProcess } from "../../demo/envoy-process.ts";
import {
  accessLogConfig,
  type Config,
  collectorClusterConfig,
  filterConfig,
  socketAddress,
  statsConfig,
} from "../../demo/telemetry-config.ts";
import { Watchdog } from "../../demo/watchdog.ts";
import { findEnvoy } from "../../envoy/binary.ts";
import { filterWasmPath } from "../../envoy/project.ts";
import { freePort } from "../tools/free-port.ts";

const LOCALHOST = "127.0.0.1";
const SILENT = { info: () => {}, warn: () => {}, error: () => {} };

/** Who the lone proxy says it is. */
export const NODE: Config = {
  id: "sidecar~10.0.0.9~lone-1.default~default.svc.cluster.local",
  cluster: "lone",
  metadata: {
    NAME: "lone-1",
    NAMESPACE: "default",
    WORKLOAD_NAME: "lone",
    CLUSTER_ID: "test",
    LABELS: { app: "lone", version: "v1", "service.istio.io/canonical-name": "lone" },
  },
};

export const ROUTER: Config = {
  name: "envoy.filters.http.router",
  typed_config: { "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router" },
};

/** Counts gRPC messages, and leaves the numbers where the filter finds them. */
const GRPC_STATS: Config = {
  name: "envoy.filters.http.grpc_stats",
  typed_config: {
    "@type": "type.googleapis.com/envoy.extensions.filters.http.grpc_stats.v3.FilterConfig",
    emit_filter_state: true,
  },
};

export interface LoneProxy {
  readonly adminUrl: string;
  readonly inboundPort: number;
  readonly outboundPort: number;
  /** What the receiver took in so far. */
  readonly records: readonly AccessRecord[];
  /** Headers of the requests that reached the server, in order. */
  readonly received: readonly IncomingHttpHeaders[];
  stop(): Promise<void>;
}

/** What a configuration has to fit: addresses as "127.0.0.1:15006", and a folder of its own. */
export interface Places {
  readonly inbound: string;
  readonly outbound: string;
  readonly admin: string;
  readonly server: string;
  readonly receiver: string;
  readonly folder: string;
}

type Tap = NonNullable<AlsOptions["taps"]>[number];
const NOBODY: Tap = { isActive: false, take: () => {} };

/**
 * `answerHeaders`: what the server adds to each answer, given the request's path. `configure`: what the proxy is told; by default
 * it leads every request, inbound and outbound, to the server. `tap`: reads the access log's messages along.
 */
export async function startLoneProxy(
  answerHeaders: (path: string) => Record<string, string>,
  configure: (places: Places) => Config | Promise<Config> = plainConfig,
  tap: Tap = NOBODY,
): Promise<LoneProxy> {
  const records: AccessRecord[] = [];
  const received: IncomingHttpHeaders[] = [];
  const grpc = new GrpcServer({ address: `${LOCALHOST}:0`, log: SILENT });
  const sink = (record: AccessRecord) => {
    records.push(record);
    return null;
  };
  const self = new SelfMetrics("test");
  new AlsReceiver({ sink, connectionSink: () => null, taps: [tap], self, log: SILENT }).register(grpc);
  const grpcPort = await grpc.start();

  const server = createServer((request, response) => {
    received.push(request.headers);
    response.writeHead(200, answerHeaders(request.url ?? "/")).end("ok");
  });
  await new Promise<void>((resolve) => server.listen(0, LOCALHOST, resolve));
  const serverPort = (server.address() as AddressInfo).port;

  const [inboundPort, outboundPort, adminPort] = [await freePort(), await freePort(), await freePort()];
  const folder = await mkdtemp(join(tmpdir(), "meshtally-test-"));
  const configFile = join(folder, "envoy.json");
  const config = await configure({
    inbound: `${LOCALHOST}:${inboundPort}`,
    outbound: `${LOCALHOST}:${outboundPort}`,
    admin: `${LOCALHOST}:${adminPort}`,
    server: `${LOCALHOST}:${serverPort}`,
    receiver: `${LOCALHOST}:${grpcPort}`,
    folder,
  });
  await writeFile(configFile, JSON.stringify(config));
  const adminUrl = `http://${LOCALHOST}:${adminPort}`;
  const watchdog = new Watchdog(folder);
  const envoy = new EnvoyProcess({
    title: "the lone proxy",
    envoy: await findEnvoy(),
    configFile,
    adminUrl,
    watchdog,
    onCrash: (failure) => {
      throw failure;
    },
  });
  await envoy.start();
  const stop = async () => {
    await envoy.stop();
    await grpc.stop(0);
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
    await watchdog.close();
  };
  return { adminUrl, inboundPort, outboundPort, records, received, stop };
}

/** `plugin`: what the filter is told besides; `labels`: those that it adds to the standard ones; `bounds`: as `statsConfig`'s. */
export function plainConfig(
  { inbound, outbound, admin, server, receiver }: Places,
  plugin: Config = {},
  labels: readonly string[] = [],
  bounds: readonly number[] = [],
): Config {
  const manager = (direction: "inbound" | "outbound") => ({
    http_filters: [filterConfig(direction, filterWasmPath(), plugin), GRPC_STATS, ROUTER],
  });
  return {
    node: NODE,
    admin: { address: socketAddress(admin) },
    stats_flush_interval: "1s",
    stats_config: statsConfig(labels, bounds),
    static_resources: {
      listeners: [
        listener("inbound", inbound, "inbound|80||", manager("inbound")),
        listener("outbound", outbound, "outbound|80||server.default.svc.cluster.local", manager("outbound")),
      ],
      clusters: [
        cluster("inbound|80||", server),
        cluster("outbound|80||server.default.svc.cluster.local", server),
        collectorClusterConfig(receiver),
      ],
    },
  };
}

/** Leads every request to the cluster `to`. `manager`: what its connection manager has besides, or instead. */
export function listener(direction: "inbound" | "outbound", address: string, to: string, manager: Config = {}): Config {
  return {
    name: direction,
    traffic_direction: direction.toUpperCase(),
    address: socketAddress(address),
    filter_chains: [
      {
        filters: [
          {
            name: "envoy.filters.network.http_connection_manager",
            typed_config: {
              "@type":
                "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
              stat_prefix: direction,
              max_request_headers_kb: 2048,
              access_log: [accessLogConfig(direction)],
              route_config: {
                name: "all",
                virtual_hosts: [
                  {
                    name: "all",
                    domains: ["*"],
                    routes: [{ name: "default", match: { prefix: "/" }, route: { cluster: to } }],
                  },
                ],
              },
              http_filters: [filterConfig(direction, filterWasmPath()), ROUTER],
              ...manager,
            },
          },
        ],
      },
    ],
  };
}

export function cluster(name: string, address: string): Config {
  return {
    name,
    type: "STATIC",
    load_assignment: {
      cluster_name: name,
      endpoints: [{ lb_endpoints: [{ endpoint: { address: socketAddress(address) } }] }],
    },
  };
}

/** Sends raw bytes on a connection of its own and returns all that comes back until it is closed. */
export function sendRaw(port: number, bytes: Buffer): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    const socket = connect(port, LOCALHOST, () => socket.write(bytes));
    socket.on("data", (chunk) => chunks.push(chunk));
    socket.on("error", reject);
    socket.on("close", () => resolve(Buffer.concat(chunks)));
  });
}
