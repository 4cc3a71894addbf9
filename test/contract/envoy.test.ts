// The shipped Envoy configurations: real Envoy takes them, and they say the same as the demo's.

import { execFile } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
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
} from "../../demo/telemetry-config.ts";
import { findEnvoy } from "../../envoy/binary.ts";
import { projectRoot } from "../../envoy/project.ts";

interface Manager {
  http_filters: { name: string; typed_config: object }[];
  access_log: object[];
}

interface Bootstrap {
  stats_config: object;
  static_resources: {
    listeners: { traffic_direction: string; filter_chains: { filters: { typed_config: Manager }[] }[] }[];
    clusters: { name: string }[];
  };
}

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
  const managers = config.static_resources.listeners.map((listener) => ({
    direction: directionOf(name, listener.traffic_direction),
    manager: listener.filter_chains[0]?.filters[0]?.typed_config,
  }));

  test("passes envoy --mode validate", { timeout: 60_000 }, async () => {
    const args = ["--mode", "validate", "--disable-hot-restart", "-l", "error", "-c", join(folder, name)];
    // The wasm's path in it is relative to the project.
    const { stderr } = await promisify(execFile)(envoy, args, { cwd: projectRoot() });
    expect(stderr).toBe("");
  });

  test("has the filter first, configured as in the demo", () => {
    expect(managers.length).toBeGreaterThan(0);
    for (const { direction, manager } of managers) {
      expect(manager?.http_filters[0]).toEqual(filterConfig(direction, "build/filter.wasm"));
    }
  });

  test("streams its access logs as the demo does", () => {
    for (const { direction, manager } of managers) {
      expect(manager?.access_log).toEqual([accessLogConfig(direction)]);
    }
    expect(config.static_resources.clusters).toContainEqual(collectorClusterConfig("127.0.0.1:11800"));
  });

  test("cuts out every label", () => {
    expect(config.stats_config).toMatchObject(statsConfig());
  });
});

function directionOf(name: string, trafficDirection: string): Direction {
  if (name === "gateway.yaml") return "gateway";
  return trafficDirection === "INBOUND" ? "inbound" : "outbound";
}
