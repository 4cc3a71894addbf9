// TCP on real Envoys, with and without the exchange, over mutual TLS and in plaintext: whatever a connection does, not a byte is added, lost or
// moved, and both proxies count exactly what the applications counted.

import { randomBytes } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { isTcpLabel, LABELS } from "../../collector/vocabulary.ts";
import type { Config } from "../../demo/telemetry-config.ts";
import { spiffeId } from "../../demo/topology.ts";
import { readFlatNode } from "../host/flat-node.ts";
import { settled } from "./observed.ts";
import { countsOf, countsOnceClosed, filterCounters, type TcpCounts, tcpCounts, tcpSamples } from "./tcp-counts.ts";
import { accountsOfCallees, accountsOfCallers, dial, type Ending, echo, type Line, type Service } from "./tcp-line.ts";
import { CALLER, DB, exchangeSettings, type LogEntry, startTcpMesh, type TcpMesh } from "./tcp-mesh.ts";

const PARALLEL = 500;
const BULK = randomBytes(1024 * 1024);
const BULK_TIMES = 100;
const TINY_WRITES = 200;
const QUESTION = randomBytes(5000);
const GREETING = "220 ready\r\n";
const ALL_LABELS = LABELS.filter((_, index) => isTcpLabel(index));

/** Speaks before anything is said, then echoes. */
const greet: Service = (line) => {
  void line.write(GREETING);
  echo(line);
};

/** Reads to the end, says how much that was, and finishes. */
const answerAtEnd: Service = (line) => {
  line.socket.on("end", () => void line.write(`${line.received.bytes} bytes`).then(() => line.finish()));
};

/** Finishes first, and reads on until the caller does. */
const finishFirst: Service = (line) => {
  void line.write("no more from here").then(() => line.finish());
};

/** Cuts the connection once the whole question is there. */
const resetOnQuestion: Service = (line) => {
  line.socket.on("data", () => {
    if (line.received.bytes === QUESTION.length) line.reset();
  });
};

/** One way of using a connection: what the server does, and what the caller does. `ending`: how the caller sees it end. */
interface Use {
  readonly title: string;
  readonly service: Service;
  readonly call: (line: Line) => Promise<Ending>;
  readonly connections: number;
}

const USES: readonly Use[] = [
  {
    title: `${PARALLEL} connections at once`,
    service: echo,
    connections: PARALLEL,
    call: async (line) => {
      const question = randomBytes(1 + Math.floor(Math.random() * 3000));
      await line.write(question);
      await line.read(question.length);
      return line.hangUp();
    },
  },
  {
    title: `${BULK_TIMES} MB through one`,
    service: answerAtEnd,
    connections: 1,
    call: async (line) => {
      for (let i = 0; i < BULK_TIMES; i++) await line.write(BULK);
      return line.hangUp();
    },
  },
  {
    title: "writes of one byte",
    service: echo,
    connections: 3,
    call: async (line) => {
      for (const byte of QUESTION.subarray(0, TINY_WRITES)) {
        await line.write(Buffer.from([byte]));
        await new Promise(setImmediate);
      }
      await line.read(TINY_WRITES);
      return line.hangUp();
    },
  },
  { title: "no byte at all", service: echo, connections: 20, call: (line) => line.hangUp() },
  {
    title: "the caller finishes first",
    service: answerAtEnd,
    connections: 5,
    call: async (line) => {
      await line.write(QUESTION);
      return line.hangUp();
    },
  },
  {
    title: "the server finishes first",
    service: finishFirst,
    connections: 5,
    call: async (line) => {
      await line.readToEnd;
      await line.write(QUESTION);
      return line.hangUp();
    },
  },
  {
    title: "the server speaks first",
    service: greet,
    connections: 5,
    call: async (line) => {
      await line.read(GREETING.length);
      await line.write(QUESTION);
      await line.read(GREETING.length + QUESTION.length);
      return line.hangUp();
    },
  },
  {
    title: "the caller cuts it",
    service: echo,
    connections: 5,
    call: async (line) => {
      await line.write(QUESTION);
      await line.read(QUESTION.length);
      line.reset();
      return line.closed;
    },
  },
  {
    title: "the server cuts it",
    service: resetOnQuestion,
    connections: 5,
    call: async (line) => {
      await line.write(QUESTION);
      return line.closed;
    },
  },
];

const COMBINATIONS = [true, false].flatMap((isMutualTls) =>
  [true, false].map((isExchanged) => ({
    title: `${isMutualTls ? "mutual TLS" : "plaintext"}, ${isExchanged ? "with" : "without"} the exchange`,
    isMutualTls,
    isExchanged,
  })),
);

describe.each(COMBINATIONS)("$title", ({ isMutualTls, isExchanged }) => {
  let mesh: TcpMesh;

  beforeAll(async () => {
    const exchange = isExchanged ? exchangeSettings(isMutualTls) : { directions: [] };
    mesh = await startTcpMesh({ isMutualTls, exchange, settings: { tcp_reporting_duration: "1s" } });
  });
  afterAll(() => mesh?.stop());

  /** That both proxies counted of all connections so far what the callers did, who in turn saw what the server did. */
  async function expectExact(): Promise<void> {
    await Promise.all(mesh.app.lines.map(({ closed }) => closed));
    const wanted = countsOf(mesh.dialled);
    const proxies = [mesh.caller, mesh.db];
    expect(await Promise.all(proxies.map((proxy) => countsOnceClosed(proxy, wanted.closed)))).toEqual([wanted, wanted]);
  }

  test.each(USES)("$title: every byte arrives as it was, and is counted", async ({ service, call, connections }) => {
    const [firstDialled, firstServed] = [mesh.dialled.length, mesh.app.lines.length];
    mesh.app.service = service;
    const ask = async () => call(await mesh.dial());
    await Promise.all(Array.from({ length: connections }, ask));
    const served = mesh.app.lines.slice(firstServed);
    await Promise.all(served.map(({ closed }) => closed));
    expect(served).toHaveLength(connections);
    expect(accountsOfCallees(served)).toEqual(accountsOfCallers(mesh.dialled.slice(firstDialled)));
    await expectExact();
  });

  test("a server that takes no connections: both proxies count one that was opened and closed", async () => {
    mesh.app.refuse();
    const line = await mesh.dial();
    await line.readToEnd;
    await line.hangUp();
    expect(line.received.bytes).toBe(0);
    await mesh.app.listen();
    await expectExact();
    expect(await flagsAt("db")).toContain("UF,URX");
  });

  async function flagsAt(proxy: "caller" | "db"): Promise<unknown[]> {
    const samples = await tcpSamples(mesh[proxy]);
    return [...new Set(samples.filter(({ value }) => value > 0).map(({ labels }) => labels["response_flags"]))].sort();
  }

  test("a connection that stays open is counted meanwhile, and its last bytes at its end", async () => {
    mesh.app.service = echo;
    const counted: Record<"caller" | "db", TcpCounts> = {
      caller: await tcpCounts(mesh.caller),
      db: await tcpCounts(mesh.db),
    };
    const line = await mesh.dial();
    for (const total of [1, 2]) {
      await line.write(QUESTION);
      await line.read(total * QUESTION.length);
      for (const proxy of ["caller", "db"] as const) {
        const { opened, closed, sent, received } = counted[proxy];
        const bytes = total * QUESTION.length;
        const wanted = { opened: opened + 1, closed, sent: sent + bytes, received: received + bytes };
        await expect.poll(() => tcpCounts(mesh[proxy])).toEqual(wanted);
      }
    }
    await line.write("the end");
    await line.hangUp();
    await expectExact();
  });

  test("each proxy says with all labels of TCP who talked to whom", async () => {
    const who = (side: "source" | "destination", workload: typeof CALLER | null) => ({
      [`${side}_workload`]: workload?.name ?? "unknown",
      // A certificate names the namespace, too.
      [`${side}_workload_namespace`]: workload?.namespace ?? (isMutualTls ? "default" : "unknown"),
      [`${side}_canonical_service`]: workload?.app ?? "unknown",
      [`${side}_canonical_revision`]: workload?.version ?? "latest",
      [`${side}_app`]: workload?.app ?? "unknown",
      [`${side}_version`]: workload?.version ?? "unknown",
    });
    const both = {
      destination_service: "db.default.svc.cluster.local",
      destination_service_name: "db",
      destination_service_namespace: "default",
      source_principal: isMutualTls ? spiffeId(CALLER) : "unknown",
      destination_principal: isMutualTls ? spiffeId(DB) : "unknown",
      request_protocol: "tcp",
    };
    const opened = async (proxy: "caller" | "db") => {
      const samples = (await tcpSamples(mesh[proxy])).filter(({ name }) => name.endsWith("opened_total"));
      for (const { labels } of samples) expect(Object.keys(labels)).toEqual(ALL_LABELS);
      return samples;
    };
    // One connection more: of many at once, on a busy machine, some are told of before their handshake is done.
    const before = { caller: await opened("caller"), db: await opened("db") };
    mesh.app.service = echo;
    const line = await mesh.dial();
    await line.write(QUESTION);
    await line.read(QUESTION.length);
    await line.hangUp();
    const main = async (proxy: "caller" | "db") => {
      const known = new Map(before[proxy].map(({ labels, value }) => [JSON.stringify(labels), value]));
      const grown = async () =>
        (await opened(proxy)).filter(({ labels, value }) => value > (known.get(JSON.stringify(labels)) ?? 0));
      await expect.poll(async () => (await grown()).length).toBe(1);
      return (await grown())[0]?.labels;
    };
    expect(await main("caller")).toMatchObject({
      ...both,
      ...who("source", CALLER),
      ...who("destination", isExchanged ? DB : null),
      reporter: "source",
      response_flags: "-",
      connection_security_policy: "unknown",
    });
    expect(await main("db")).toMatchObject({
      ...both,
      ...who("source", isExchanged ? CALLER : null),
      ...who("destination", DB),
      reporter: "destination",
      response_flags: "-",
      connection_security_policy: isMutualTls ? "mutual_tls" : "none",
    });
  });

  test("access logs find the peer in filter state", async () => {
    const peersOf = async (proxy: "caller" | "db", state: "downstreamPeer" | "upstreamPeer") => {
      const ended = (await mesh[proxy].log()).filter(({ type }) => type === "TcpConnectionEnd");
      const workloads = ended.map((entry) => nameOf(entry[state]));
      return [...new Set(workloads.filter((name) => name !== null))];
    };
    const read = async () => ({
      upstreamOfCaller: await peersOf("caller", "upstreamPeer"),
      downstreamOfCaller: await peersOf("caller", "downstreamPeer"),
      upstreamOfDb: await peersOf("db", "upstreamPeer"),
      downstreamOfDb: await peersOf("db", "downstreamPeer"),
    });
    expect(await settled(read, () => true)).toEqual({
      upstreamOfCaller: isExchanged ? [DB.name] : [],
      downstreamOfCaller: [],
      upstreamOfDb: [],
      downstreamOfDb: isExchanged ? [CALLER.name] : [],
    });
  });

  test("the exchange counts itself by Istio's names, and nothing was amiss", async () => {
    const counters = { caller: await filterCounters(mesh.caller), db: await filterCounters(mesh.db) };
    const { alpn_protocol_found: found = 0, metadata_added: added = 0 } = counters.db;
    if (!isExchanged) return expect(counters).toEqual({ caller: {}, db: {} });
    expect(found).toBeGreaterThan(PARALLEL);
    expect(added).toBeGreaterThan(PARALLEL);
    expect(counters.caller["metadata_added"]).toBe(found);
  });
});

test("a connection that a policy before the filter refuses is counted without bytes", async () => {
  const mesh = await startTcpMesh({ isMutualTls: false, filters: "db" });
  try {
    await mesh.db.setListener(withPolicy(mesh.listener("db")));
    await expect.poll(() => mesh.db.admin("/config_dump?resource=dynamic_listeners")).toContain("rbac");
    const line = await dial(mesh.db.port);
    await line.write(QUESTION);
    await line.readToEnd;
    await line.hangUp();
    // The policy decides at the first bytes, when the server has been reached already.
    expect(mesh.app.lines.map(({ received }) => received.bytes)).toEqual([0]);
    expect(await countsOnceClosed(mesh.db, 1)).toEqual({ opened: 1, closed: 1, sent: 0, received: 0 });
  } finally {
    await mesh.stop();
  }
});

/** With a filter first that refuses every connection. */
function withPolicy(listener: Config): Config {
  const policy = {
    name: "envoy.filters.network.rbac",
    typed_config: {
      "@type": "type.googleapis.com/envoy.extensions.filters.network.rbac.v3.RBAC",
      stat_prefix: "refuse",
      rules: { action: "ALLOW", policies: {} },
    },
  };
  const chains = listener["filter_chains"] as readonly { readonly filters: readonly Config[] }[];
  return { ...listener, filter_chains: chains.map((chain) => ({ ...chain, filters: [policy, ...chain.filters] })) };
}

/** The workload in a filter state as logged; null for none. */
function nameOf(state: LogEntry["upstreamPeer"]): string | null {
  return state === null ? null : (readFlatNode(Buffer.from(state.value, "base64")).workloadName ?? null);
}
