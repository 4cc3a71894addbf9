// The shipped Envoy configurations: real Envoy takes them, and they say the same as the demo's.

import { execFile } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { beforeAll, describe, expect, test } from "vitest";
import { parse } from "yaml";
import {
  accessLogConfig,
  collectorClusterConfig,
  type Direction,
  filterConfig,
  statsConfig,
  tcpAccessLogConfig,
  tcpFilterConfig,
  tcpProxyConfig,
} from "../../demo/telemetry-config.ts";
import { findEnvoy } from "../../envoy/binary.ts";
import { projectRoot } from "../../envoy/project.ts";
import { writeCertificates } from "../fixtures/certificates.ts";

interface Manager {
  http_filters: { name: string; typed_config: object }[];
  access_log: object[];
}

interface NetworkFilter {
  name: string;
  typed_config: object;
}

interface Bootstrap {
  stats_config: object;
  static_resources: {
    listeners: { traffic_direction: string; filter_chains: { filters: NetworkFilter[] }[] }[];
    clusters: { name: string }[];
  };
}

const MANAGER = "envoy.filters.network.http_connection_manager";

const folder = join(projectRoot(), "envoy");
const names = readdirSync(folder).filter((name) => name.endsWith(".yaml"));

let envoy = "";
beforeAll(async () => {
  envoy = await findEnvoy();
}, 300_000);

test("there is a configuration for a sidecar and one for a gateway", () => {
  expect(names).toEqual(expect.arrayContaining(["gateway.yaml", "sidecar.yaml"]));
});

describe.each(names)("%s", (name) => {
  const config = parse(readFileSync(join(folder, name), "utf8")) as Bootstrap;
  const chains = config.static_resources.listeners.flatMap(({ traffic_direction, filter_chains }) =>
    filter_chains.map(({ filters }) => ({ direction: directionOf(name, traffic_direction), filters })),
  );
  const managers = chains.flatMap(({ direction, filters }) =>
    filters
      .filter((filter) => filter.name === MANAGER)
      .map(({ typed_config }) => ({ direction, manager: typed_config as Manager })),
  );
  const tcpChains = chains.filter(({ filters }) => !filters.some((filter) => filter.name === MANAGER));

  test("passes envoy --mode validate", { timeout: 60_000 }, async () => {
    const args = ["--mode", "validate", "--disable-hot-restart", "-l", "error", "-c", join(folder, name)];
    // The wasm's path in it is relative to the project.
    const { stderr } = await promisify(execFile)(envoy, args, { cwd: projectRoot() });
    expect(stderr).toBe("");
  });

  test("has the filter first, configured as in the demo", () => {
    expect(managers.length).toBeGreaterThan(0);
    for (const { direction, manager } of managers) {
      expect(manager.http_filters[0]).toEqual(filterConfig(direction, "build/filter.wasm"));
    }
  });

  test("streams its access logs as the demo does", () => {
    for (const { direction, manager } of managers) {
      expect(manager.access_log).toEqual([accessLogConfig(direction)]);
    }
    expect(config.static_resources.clusters).toContainEqual(collectorClusterConfig("127.0.0.1:11800"));
  });

  test("has the filter first before each TCP proxy, in the VM of its direction, and streams its access logs as the demo does", () => {
    expect(tcpChains.map(({ direction }) => direction)).toEqual(managers.map(({ direction }) => direction));
    for (const { direction, filters } of tcpChains) {
      const to = direction === "inbound" ? "inbound|6379||" : "outbound|6379||db.default.svc.cluster.local";
      expect(filters).toEqual([
        tcpFilterConfig(direction, "build/filter.wasm"),
        tcpProxyConfig(to, { accessLogs: [tcpAccessLogConfig(direction)] }),
      ]);
    }
  });

  test("cuts out every label", () => {
    expect(config.stats_config).toMatchObject(statsConfig());
  });
});

function directionOf(name: string, trafficDirection: string): Direction {
  if (name === "gateway.yaml") return "gateway";
  return trafficDirection === "INBOUND" ? "inbound" : "outbound";
}

test("the cluster of deploy/envoy-tls-cluster.yaml passes envoy --mode validate", { timeout: 60_000 }, async () => {
  const folder = mkdtempSync(join(tmpdir(), "meshtally-cluster-"));
  const { tls } = await writeCertificates({ tls: [] }, folder);
  renameSync(tls.certificate, join(folder, "tls.crt"));
  renameSync(tls.authority, join(folder, "ca.crt"));
  const text = readFileSync(join(projectRoot(), "deploy/envoy-tls-cluster.yaml"), "utf8");
  const cluster: unknown = parse(text.replaceAll("/etc/meshtally/tls", folder));
  const file = join(folder, "envoy.json");
  writeFileSync(file, JSON.stringify({ static_resources: { clusters: [cluster] } }));
  const args = ["--mode", "validate", "--disable-hot-restart", "-l", "error", "-c", file];
  const { stderr } = await promisify(execFile)(envoy, args);
  rmSync(folder, { recursive: true });
  expect(stderr).toBe("");
});
