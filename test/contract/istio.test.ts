// What envoy/istio/ tells a mesh: the same as the demo's proxies are told; and put together as istiod does it, real Envoy takes it.

import { execFile } from "node:child_process";
import { mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { LABELS, REASON_LABEL, tagRegex } from "../../collector/vocabulary.ts";
import { type CertificateFiles, writeCertificates } from "../../demo/certificates.ts";
import {
  accessLogConfig,
  type Config,
  collectorClusterConfig,
  type Direction,
  filterConfig,
  tcpAccessLogConfig,
  tcpFilterConfig,
  tcpProxyConfig,
} from "../../demo/telemetry-config.ts";
import { GATEWAY, type Workload } from "../../demo/topology.ts";
import { findEnvoy } from "../../envoy/binary.ts";
import { filterWasmPath, projectRoot } from "../../envoy/project.ts";
import { asFetched, istioBootstrap } from "../istio/bootstrap.ts";
import {
  ACCESS_LOGS,
  FILTERS,
  HELM_VALUES,
  type Manifest,
  type MeshSettings,
  type Patch,
  readDocuments,
  TCP_FILTERS,
  WASM_PLUGINS,
} from "../istio/manifests.ts";
import { gatewayResources, sidecarResources, WEB } from "../istio/proxies.ts";
import {
  CONNECTION_MANAGER,
  chainsOf,
  type Extension,
  type PatchContext,
  type Resources,
  TCP_PROXY,
} from "../istio/resources.ts";
import { install, WAYS } from "../istio/ways.ts";

const DIRECTIONS: readonly { direction: Direction; context: PatchContext }[] = [
  { direction: "inbound", context: "SIDECAR_INBOUND" },
  { direction: "outbound", context: "SIDECAR_OUTBOUND" },
  { direction: "gateway", context: "GATEWAY" },
];

const ISTIO_OPERATOR = readDocuments("istio-operator.yaml") as Manifest<{
  meshConfig: MeshSettings["meshConfig"];
  values: { pilot: MeshSettings["pilot"] };
}>[];
const TELEMETRY = readDocuments("telemetry.yaml") as Manifest<unknown>[];

/** The plugin configuration as the filter reads it, and what else decides how the VM runs it. */
function pluginOf(typedConfig: Config): unknown {
  const { config } = typedConfig as {
    config: { root_id: string; fail_open: boolean; configuration: { value: string } };
  };
  return { rootId: config.root_id, failOpen: config.fail_open, plugin: JSON.parse(config.configuration.value) };
}

function patchOf(filters: typeof FILTERS, applyTo: string, context: string): Config {
  const patches = filters
    .flatMap(({ spec }) => spec.configPatches)
    .filter((patch) => patch.applyTo === applyTo && patch.match.context === context);
  expect(patches, `${applyTo} for ${context}`).toHaveLength(1);
  return patches[0]?.patch.value as Config;
}

test("each file holds what it is named for, all in the root namespace", async () => {
  const objects = [...WASM_PLUGINS, ...FILTERS, ...ACCESS_LOGS, ...TCP_FILTERS, ...TELEMETRY];
  expect(
    objects.map(({ apiVersion, kind, metadata }) => [kind, apiVersion, metadata.namespace, metadata.name]),
  ).toEqual([
    ["WasmPlugin", "extensions.istio.io/v1alpha1", "istio-system", "meshtally-inbound"],
    ["WasmPlugin", "extensions.istio.io/v1alpha1", "istio-system", "meshtally-outbound"],
    ["WasmPlugin", "extensions.istio.io/v1alpha1", "istio-system", "meshtally-gateway"],
    ["WasmPlugin", "extensions.istio.io/v1alpha1", "istio-system", "meshtally-egress-gateway"],
    ["EnvoyFilter", "networking.istio.io/v1alpha3", "istio-system", "meshtally-filter"],
    ["EnvoyFilter", "networking.istio.io/v1alpha3", "istio-system", "meshtally-access-log"],
    ["EnvoyFilter", "networking.istio.io/v1alpha3", "istio-system", "meshtally-tcp"],
    ["Telemetry", "telemetry.istio.io/v1", "istio-system", "meshtally"],
  ]);
  expect(ISTIO_OPERATOR.map(({ apiVersion, kind }) => [kind, apiVersion])).toEqual([
    ["IstioOperator", "install.istio.io/v1alpha1"],
  ]);
  expect((await readdir(join(projectRoot(), "envoy", "istio"))).sort()).toEqual([
    "README.md",
    "access-log.yaml",
    "envoy-filter.yaml",
    "helm-values.yaml",
    "istio-operator.yaml",
    "tcp.yaml",
    "telemetry.yaml",
    "wasm-plugin.yaml",
  ]);
});

describe("the mesh's settings", () => {
  const { extraStatTags, proxyStatsMatcher } = HELM_VALUES.meshConfig.defaultConfig;

  test("name every label that can stand in a stat name, in order", () => {
    expect(extraStatTags).toEqual([...LABELS, REASON_LABEL]);
  });

  test("make Istio cut each label out, by an expression that finds it where that of the plain configurations does", async () => {
    const stats = (await bootstrapOf(sidecar(), WEB))["stats_config"] as { stats_tags: Config[] };
    for (const name of extraStatTags) {
      expect(stats.stats_tags).toContainEqual({ tag_name: name, regex: tagRegex(name).replace("\\b", "") });
    }
  });

  test("publish the filter's metrics and the state of the way to the collector", () => {
    const collector = collectorClusterConfig("unused:1")["name"];
    expect(proxyStatsMatcher.inclusionPrefixes).toEqual(["wasmcustom.", "access_logs.", `cluster.${collector}.`]);
  });

  test("are the same for Helm and for istioctl", () => {
    const [operator] = ISTIO_OPERATOR;
    expect({ meshConfig: operator?.spec.meshConfig, ...operator?.spec.values }).toEqual(HELM_VALUES);
  });

  test("turn Istio's own exchange and its own metrics off", () => {
    expect(HELM_VALUES.pilot.env).toEqual({ PILOT_ENABLE_METADATA_EXCHANGE: "false" });
    const overrides = [{ match: { metric: "ALL_METRICS", mode: "CLIENT_AND_SERVER" }, disabled: true }];
    expect(TELEMETRY[0]?.spec).toEqual({ metrics: [{ providers: [{ name: "prometheus" }], overrides }] });
  });
});

test("egress gateways run the filter as ingress gateways do", () => {
  const specOf = (name: string) => WASM_PLUGINS.find(({ metadata }) => metadata.name === name)?.spec;
  const egress = specOf("meshtally-egress-gateway");
  expect(egress?.selector).toEqual({ matchLabels: { istio: "egressgateway" } });
  expect({ ...egress, selector: null }).toEqual({ ...specOf("meshtally-gateway"), selector: null });
});

describe.each(DIRECTIONS)("$direction", ({ direction, context }) => {
  const demo = filterConfig(direction, filterWasmPath())["typed_config"] as Config;

  test("the WasmPlugin configures the filter as the demo does", () => {
    const plugin = WASM_PLUGINS.find(({ metadata }) => metadata.name === `meshtally-${direction}`);
    const { pluginName, failStrategy, pluginConfig } = plugin?.spec ?? {};
    expect({ rootId: pluginName, failOpen: failStrategy === "FAIL_OPEN", plugin: pluginConfig }).toEqual(
      pluginOf(demo),
    );
  });

  test("the EnvoyFilter configures the filter as the demo does, wherever the wasm comes from", () => {
    const extension = patchOf(FILTERS, "EXTENSION_CONFIG", context) as unknown as Extension;
    expect(asFetched(extension, filterWasmPath()).typed_config).toEqual(demo);
  });

  test("the access log is the demo's", () => {
    const { typed_config: merged } = patchOf(ACCESS_LOGS, "NETWORK_FILTER", context) as { typed_config: Config };
    expect(merged["access_log"]).toEqual([accessLogConfig(direction)]);
  });
});

describe.each(DIRECTIONS)("$direction, TCP", ({ direction, context }) => {
  test("the EnvoyFilter configures the filter as the demo does, wherever the wasm comes from", () => {
    const extension = patchOf(TCP_FILTERS, "EXTENSION_CONFIG", context) as unknown as Extension;
    const never = direction === "inbound" ? {} : { metadata_exchange: { tcp: { send: "never" } } };
    const demo = tcpFilterConfig(direction, filterWasmPath(), never)["typed_config"];
    expect(asFetched(extension, filterWasmPath()).typed_config).toEqual(demo);
  });

  test("the access log, of open connections, too, is the demo's", () => {
    const merges = TCP_FILTERS.flatMap(({ spec }) => spec.configPatches).filter(
      ({ match, patch }) => match.context === context && patch.operation === "MERGE",
    );
    const { typed_config: demo } = tcpProxyConfig("", { accessLogs: [tcpAccessLogConfig(direction)] }) as {
      typed_config: Config;
    };
    const { stat_prefix: _prefix, cluster: _cluster, ...added } = demo;
    expect(merges.map(({ patch }) => patch.value["typed_config"])).toEqual([added]);
  });
});

test("the collector's cluster is the demo's, found by name", () => {
  const demo = collectorClusterConfig("meshtally-collector.meshtally.svc.cluster.local:11800");
  expect(patchOf(ACCESS_LOGS, "CLUSTER", "ANY")).toEqual({ ...demo, type: "STRICT_DNS" });
});

let folder = "";
let certificatesOf: (workload: Workload) => CertificateFiles;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "meshtally-istio-"));
  certificatesOf = await writeCertificates([WEB, GATEWAY], folder);
});
afterAll(() => rm(folder, { recursive: true }));

function sidecar(): Resources {
  const [inbound, outbound, application] = ["127.0.0.1:15006", "127.0.0.1:15001", "127.0.0.1:8080"];
  return sidecarResources({ inbound, outbound, application, certificates: certificatesOf(WEB) });
}

function gateway(): Resources {
  return gatewayResources("127.0.0.1:8080", "127.0.0.1:15006", certificatesOf(GATEWAY));
}

function bootstrapOf(resources: Resources, workload: Workload): Promise<Config> {
  const proxyConfig = HELM_VALUES.meshConfig.defaultConfig;
  const wasmFile = filterWasmPath();
  return istioBootstrap({ workload, resources, proxyConfig, admin: "127.0.0.1:15000", folder, wasmFile });
}

describe.each(WAYS)("installed by $name", (way) => {
  const proxies = [
    { proxy: "a sidecar", workload: WEB, resources: sidecar, managers: 4, tcpProxies: 3 },
    { proxy: "a gateway", workload: GATEWAY, resources: gateway, managers: 1, tcpProxies: 1 },
  ];

  test.each(proxies)(
    "$proxy has the filter once and first, and the access log beside Istio's own",
    ({ resources, managers }) => {
      const { listeners } = install(way, resources());
      let seen = 0;
      for (const { context, listener } of listeners) {
        const direction = DIRECTIONS.find((each) => each.context === context)?.direction as Direction;
        for (const { name, typed_config: manager } of listener.filter_chains.flatMap(({ filters }) => filters)) {
          if (name !== CONNECTION_MANAGER) continue;
          seen++;
          const names = (manager["http_filters"] as { name: string }[]).map((filter) => filter.name);
          expect(names.map((filter) => filter.replace(/.*(meshtally)[-_]/, "$1 "))).toEqual([
            `meshtally ${direction}`,
            "envoy.filters.http.fault",
            "envoy.filters.http.cors",
            "envoy.filters.http.router",
          ]);
          const [own, ...added] = manager["access_log"] as { name: string }[];
          expect(own?.name).toBe("envoy.access_loggers.file");
          expect(added).toEqual([accessLogConfig(direction)]);
        }
      }
      expect(seen).toBe(managers);
    },
  );

  test.each(proxies)(
    "$proxy has the filter before each TCP proxy, and never before HTTP",
    ({ resources, tcpProxies }) => {
      const { listeners } = install(way, resources());
      let seen = 0;
      for (const { context, listener } of listeners) {
        const direction = DIRECTIONS.find((each) => each.context === context)?.direction as Direction;
        for (const { filters } of chainsOf(listener)) {
          const names = filters.map(({ name }) => name);
          if (!names.includes(TCP_PROXY)) {
            expect(names).toEqual([CONNECTION_MANAGER]);
            continue;
          }
          seen++;
          expect(names).toEqual([`meshtally_${direction}_tcp`, TCP_PROXY]);
          expect(filters.at(-1)?.typed_config).toMatchObject({
            access_log: [tcpAccessLogConfig(direction)],
            access_log_options: { access_log_flush_interval: "5s" },
          });
        }
      }
      expect(seen).toBe(tcpProxies);
    },
  );

  test.each(proxies)("$proxy passes envoy --mode validate", async ({ proxy, workload, resources }) => {
    const file = join(folder, `${proxy}.json`);
    await writeFile(file, JSON.stringify(await bootstrapOf(install(way, resources()), workload)));
    const args = ["--mode", "validate", "--disable-hot-restart", "-l", "error", "-c", file];
    const { stderr } = await promisify(execFile)(await findEnvoy(), args);
    expect(stderr).toBe("");
  });

  test("no patch is without effect", () => {
    const applied = new Set<Patch>();
    for (const resources of [sidecar(), gateway()]) install(way, resources, applied);
    expect([...applied]).toEqual(expect.arrayContaining(way.filters.flatMap(({ spec }) => spec.configPatches)));
  });
});
