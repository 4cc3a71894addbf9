// npm run bench:filter [-- --rounds N]: what the filter adds to a request, in microseconds of Envoy's worker thread.
//
// One Envoy process, one worker, one listener per variant, all in front of the same upstream. Rounds of short slices, the variants
// in random order within a round; the figure is the median over rounds of (variant - bare), with a bootstrap 95 % confidence
// interval. Rounds go on until each interval is within 10 % of its median, or the bound is hit: then the machine is too noisy.

import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { connect, createServer, type Server, type Socket } from "node:net";
import { cpus, loadavg, tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { LABELS, PEER_ID_HEADER, PEER_METADATA_HEADER } from "../../collector/vocabulary.ts";
import { type Config, filterConfig, statsConfig } from "../../demo/telemetry-config.ts";
import { findEnvoy } from "../../envoy/binary.ts";
import { filterWasmPath } from "../../envoy/project.ts";

const CONNECTIONS = 16;
const REQUESTS_PER_SLICE = 3000;
const MIN_ROUNDS = 20;
const DEFAULT_MAX_ROUNDS = 120;
const WANTED_PRECISION = 0.1;
const RESAMPLES = 2000;

interface Variant {
  readonly name: string;
  readonly direction: "INBOUND" | "OUTBOUND";
  readonly filter?: Config;
  readonly accessLog?: Config;
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

/** A peer's metadata as Istio encodes it: `NAME`, `NAMESPACE`, `WORKLOAD_NAME`, `CLUSTER_ID`, `LABELS`. */
function peerMetadata(): string {
  const field = (tag: number, bytes: Buffer) => Buffer.concat([Buffer.from([tag, bytes.length]), bytes]);
  const entry = (key: string, valueTag: number, value: Buffer) =>
    // Lengths stay below 128, so that one byte holds each.
    Buffer.concat([field(0x0a, Buffer.from(key)), field(0x12, field(valueTag, value))]);
  const struct = (members: Buffer[]) => Buffer.concat(members.map((member) => field(0x0a, member)));
  const text = (key: string, value: string) => entry(key, 0x1a, Buffer.from(value));
  const labels = struct([text("app", "reviews"), text("service.istio.io/canonical-name", "reviews")]);
  return struct([
    text("CLUSTER_ID", "Kubernetes"),
    entry("LABELS", 0x2a, labels),
    text("NAME", "reviews-v1-545db77b95-2ps7q"),
    text("NAMESPACE", "default"),
    text("OWNER", "kubernetes://apis/apps/v1/namespaces/default/deployments/reviews-v1"),
    text("WORKLOAD_NAME", "reviews-v1"),
  ]).toString("base64");
}

const PEER_HEADERS =
  `${PEER_ID_HEADER}: sidecar~127.0.0.2~reviews-v1-545db77b95-2ps7q.default~default.svc.cluster.local\r\n` +
  `${PEER_METADATA_HEADER}: ${peerMetadata()}\r\n`;

function variants(): Variant[] {
  const wasm = filterWasmPath();
  return [
    { name: BARE.OUTBOUND, direction: "OUTBOUND" },
    { name: BARE.INBOUND, direction: "INBOUND" },
    { name: "filter, outbound", direction: "OUTBOUND", filter: filterConfig("outbound", wasm) },
    { name: "filter, inbound", direction: "INBOUND", filter: filterConfig("inbound", wasm) },
    { name: "filter without exchange, outbound", direction: "OUTBOUND", filter: withoutExchange(wasm) },
    { name: "Envoy's native stats logger, outbound", direction: "OUTBOUND", accessLog: nativeStatsLogger() },
  ];
}

const BARE = { OUTBOUND: "bare, outbound", INBOUND: "bare, inbound" } as const;

/** A VM of its own, so that it is measured as if it were alone. */
function withoutExchange(wasmFile: string): Config {
  const text = JSON.stringify(filterConfig("outbound", wasmFile)).replace(
    "meshtally_outbound",
    "meshtally_no_exchange",
  );
  const config = JSON.parse(text) as { typed_config: { config: { configuration: { value: string } } } };
  const { configuration } = config.typed_config.config;
  configuration.value = JSON.stringify({ ...JSON.parse(configuration.value), metadata_exchange: { directions: [] } });
  return config;
}

/** What Envoy has of its own for the job: the same four metrics with 25 tags, those that change told by format operators. */
function nativeStatsLogger(): Config {
  const operators: Record<string, string> = {
    source_principal: "%UPSTREAM_LOCAL_URI_SAN%",
    destination_principal: "%UPSTREAM_PEER_URI_SAN%",
    destination_service: "%REQ(:AUTHORITY)%",
    destination_service_name: "%UPSTREAM_CLUSTER%",
    request_protocol: "%REQ(CONTENT-TYPE)%",
    response_code: "%RESPONSE_CODE%",
    grpc_response_status: "%GRPC_STATUS_NUMBER%",
    response_flags: "%RESPONSE_FLAGS%",
    connection_security_policy: "%ROUTE_NAME%",
  };
  const tags = LABELS.map((name) => ({ name, value_format: operators[name] ?? "default" }));
  const stat = (name: string) => ({ name, tags });
  return {
    name: "envoy.access_loggers.stats",
    typed_config: {
      "@type": "type.googleapis.com/envoy.extensions.access_loggers.stats.v3.Config",
      stat_prefix: "native",
      counters: [{ stat: stat("requests_total"), value_fixed: 1 }],
      histograms: [
        { stat: stat("request_duration"), unit: "Milliseconds", value_format: "%DURATION%" },
        { stat: stat("request_bytes"), unit: "Bytes", value_format: "%BYTES_RECEIVED%" },
        { stat: stat("response_bytes"), unit: "Bytes", value_format: "%BYTES_SENT%" },
      ],
    },
  };
}

function envoyConfig(
  all: readonly Variant[],
  ports: readonly number[],
  adminPort: number,
  upstreamPort: number,
): Config {
  const cluster = "outbound|80||reviews.default.svc.cluster.local";
  const socket = (port: number) => ({ socket_address: { address: "127.0.0.1", port_value: port } });
  const router = {
    name: "envoy.filters.http.router",
    typed_config: { "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router" },
  };
  const listener = ({ name, direction, filter, accessLog }: Variant, i: number) => ({
    name,
    traffic_direction: direction,
    address: socket(ports[i] as number),
    filter_chains: [
      {
        filters: [
          {
            name: "envoy.filters.network.http_connection_manager",
            typed_config: {
              "@type":
                "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
              stat_prefix: `bench_${i}`,
              route_config: {
                virtual_hosts: [
                  { name: "all", domains: ["*"], routes: [{ match: { prefix: "/" }, route: { cluster } }] },
                ],
              },
              http_filters: filter ? [filter, router] : [router],
              access_log: accessLog ? [accessLog] : [],
            },
          },
        ],
      },
    ],
  });
  return {
    node: NODE,
    admin: { address: socket(adminPort) },
    stats_config: statsConfig(),
    static_resources: {
      listeners: all.map(listener),
      clusters: [
        {
          name: cluster,
          type: "STATIC",
          metadata: {
            filter_metadata: {
              istio: {
                services: [{ host: "reviews.default.svc.cluster.local", name: "reviews", namespace: "default" }],
              },
            },
          },
          load_assignment: {
            cluster_name: cluster,
            endpoints: [{ lb_endpoints: [{ endpoint: { address: socket(upstreamPort) } }] }],
          },
        },
      ],
    },
  };
}

/** Answers each request with the same small response, which carries a peer's metadata as a real peer's would. */
async function startUpstream(): Promise<Server> {
  const response = Buffer.from(`HTTP/1.1 200 OK\r\n${PEER_HEADERS}content-length: 2\r\n\r\nok`);
  const server = createServer((socket) => {
    socket.setNoDelay(true);
    socket.on("error", () => socket.destroy());
    socket.on("data", () => socket.write(response)); // Envoy sends a request this small in one piece
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return server;
}

function portOf(server: Server): number {
  return (server.address() as { port: number }).port;
}

async function freePorts(count: number): Promise<number[]> {
  const servers = await Promise.all(Array.from({ length: count }, () => startUpstream()));
  const ports = servers.map(portOf);
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
  return ports;
}

/** Keep-alive connections to one listener, each with one request at a time. */
class Client {
  private readonly sockets: Socket[] = [];
  private readonly request: Buffer;
  private left = 0;
  private inFlight = 0;
  private done: (() => void) | null = null;
  private fail: ((error: Error) => void) | null = null;

  constructor(
    private readonly port: number,
    hasPeer: boolean,
  ) {
    this.request = Buffer.from(`GET /reviews/1 HTTP/1.1\r\nhost: reviews:9080\r\n${hasPeer ? PEER_HEADERS : ""}\r\n`);
  }

  async open(): Promise<void> {
    await Promise.all(
      Array.from({ length: CONNECTIONS }, async () => {
        const socket = connect(this.port, "127.0.0.1");
        await new Promise<void>((resolve, reject) => socket.once("connect", resolve).once("error", reject));
        socket.setNoDelay(true);
        socket.on("error", (error) => this.fail?.(error));
        socket.on("data", (bytes) => this.answered(socket, bytes));
        this.sockets.push(socket);
      }),
    );
  }

  run(requests: number): Promise<void> {
    this.left = requests;
    return new Promise((resolve, reject) => {
      this.done = resolve;
      this.fail = reject;
      for (const socket of this.sockets) this.send(socket);
    });
  }

  close(): void {
    for (const socket of this.sockets) socket.destroy();
  }

  private send(socket: Socket): void {
    if (this.left === 0) {
      if (this.inFlight === 0) this.done?.();
      return;
    }
    this.left--;
    this.inFlight++;
    socket.write(this.request);
  }

  private answered(socket: Socket, bytes: Buffer): void {
    if (bytes.subarray(0, 12).toString("latin1") !== "HTTP/1.1 200") {
      this.fail?.(new Error(`unexpected answer: ${bytes.toString("latin1", 0, 200)}`));
      return;
    }
    this.inFlight--;
    this.send(socket);
  }
}

/** Nanoseconds that the worker thread has been on a CPU. */
class WorkerClock {
  private readonly file: string;

  constructor(pid: number) {
    const folder = `/proc/${pid}/task`;
    const worker = readdirSync(folder).find((id) =>
      readFileSync(join(folder, id, "comm"), "utf8").startsWith("wrk:worker"),
    );
    if (worker === undefined) throw new Error("Envoy has no worker thread");
    this.file = join(folder, worker, "schedstat");
  }

  read(): number {
    return Number(readFileSync(this.file, "utf8").split(" ")[0]);
  }
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  const upper = sorted[middle] as number;
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] as number) + upper) / 2;
}

/** 95 % confidence interval of the median by bootstrap over rounds. */
function interval(values: readonly number[]): [number, number] {
  const medians = Array.from({ length: RESAMPLES }, () =>
    median(values.map(() => values[Math.floor(Math.random() * values.length)] as number)),
  ).sort((a, b) => a - b);
  return [medians[Math.floor(RESAMPLES * 0.025)] as number, medians[Math.floor(RESAMPLES * 0.975)] as number];
}

function shuffled<T>(values: readonly T[]): T[] {
  return values
    .map((value) => ({ value, at: Math.random() }))
    .sort((a, b) => a.at - b.at)
    .map(({ value }) => value);
}

interface Comparison {
  readonly name: string;
  readonly base: string;
  readonly differences: number[];
}

async function startEnvoy(
  all: readonly Variant[],
  ports: readonly number[],
  upstreamPort: number,
  folder: string,
): Promise<ChildProcess> {
  const [adminPort = 0] = await freePorts(1);
  const file = join(folder, "envoy.json");
  writeFileSync(file, JSON.stringify(envoyConfig(all, ports, adminPort, upstreamPort)));
  const envoy = spawn(
    await findEnvoy(),
    ["-c", file, "--concurrency", "1", "--use-dynamic-base-id", "--log-level", "error"],
    { stdio: ["ignore", "inherit", "inherit"] },
  );
  for (let tries = 0; tries < 100; tries++) {
    if (envoy.exitCode !== null) throw new Error(`Envoy ended with exit code ${envoy.exitCode}`);
    const isReady = await fetch(`http://127.0.0.1:${adminPort}/ready`).then(
      (answer) => answer.ok,
      () => false,
    );
    if (isReady) return envoy;
    await sleep(100);
  }
  throw new Error("Envoy was not ready within 10 s");
}

/** Puts Envoy on the last core and this process on the others; says whether the machine allowed it. */
function pin(pid: number): boolean {
  const last = cpus().length - 1;
  if (last < 1) return false;
  const toCores = (cores: string, process: number) =>
    spawnSync("taskset", ["-a", "-p", "-c", cores, String(process)], { stdio: "ignore" }).status === 0;
  return toCores(String(last), pid) && toCores(last === 1 ? "0" : `0-${last - 1}`, process.pid);
}

async function measure(maxRounds: number): Promise<void> {
  const all = variants();
  const folder = mkdtempSync(join(tmpdir(), "meshtally-bench-"));
  const upstream = await startUpstream();
  const ports = await freePorts(all.length);
  const envoy = await startEnvoy(all, ports, portOf(upstream), folder);
  try {
    const isPinned = pin(envoy.pid as number);
    const clock = new WorkerClock(envoy.pid as number);
    const clients = all.map(({ direction }, i) => new Client(ports[i] as number, direction === "INBOUND"));
    for (const client of clients) {
      await client.open();
      await client.run(REQUESTS_PER_SLICE);
    }
    console.log(`${cpus().length} cores, load ${loadavg()[0]?.toFixed(2)}, ${isPinned ? "pinned" : "not pinned"}`);
    const comparisons: Comparison[] = all
      .filter(({ name }) => !Object.values<string>(BARE).includes(name))
      .map(({ name, direction }) => ({ name, base: BARE[direction], differences: [] }));
    const bare: number[] = [];
    for (let round = 1; round <= maxRounds; round++) {
      const cost = new Map<string, number>();
      for (const i of shuffled(all.map((_, index) => index))) {
        const before = clock.read();
        await (clients[i] as Client).run(REQUESTS_PER_SLICE);
        cost.set((all[i] as Variant).name, (clock.read() - before) / REQUESTS_PER_SLICE / 1000);
      }
      for (const { name, base, differences } of comparisons) {
        differences.push((cost.get(name) as number) - (cost.get(base) as number));
      }
      bare.push(cost.get(BARE.OUTBOUND) as number);
      if (round >= MIN_ROUNDS && round % 5 === 0 && comparisons.every(isPrecise)) break;
    }
    report(comparisons, bare);
    for (const client of clients) client.close();
  } finally {
    envoy.kill("SIGKILL");
    upstream.close();
    rmSync(folder, { recursive: true });
  }
}

function isPrecise({ differences }: Comparison): boolean {
  const [low, high] = interval(differences);
  return (high - low) / 2 <= WANTED_PRECISION * median(differences);
}

function report(comparisons: readonly Comparison[], bare: readonly number[]): void {
  console.log(`${BARE.OUTBOUND}: ${median(bare).toFixed(1)} us of worker CPU per request`);
  for (const comparison of comparisons) {
    const [low, high] = interval(comparison.differences);
    const { name, differences } = comparison;
    console.log(
      `${name}: adds ${median(differences).toFixed(1)} us per request (95 % ${low.toFixed(1)} to ${high.toFixed(1)}, ` +
        `${differences.length} rounds)${isPrecise(comparison) ? "" : "  NOT within 10 %: the machine is too noisy"}`,
    );
  }
}

function roundsArgument(args: readonly string[]): number {
  if (args.length === 0) return DEFAULT_MAX_ROUNDS;
  const rounds = Number(args[1]);
  if (args.length === 2 && args[0] === "--rounds" && Number.isInteger(rounds) && rounds >= MIN_ROUNDS) return rounds;
  console.error(`usage: bench:filter [-- --rounds N]   N: a whole number, at least ${MIN_ROUNDS}`);
  process.exit(2);
}

await measure(roundsArgument(process.argv.slice(2)));
