// The bootstrap that Istio's agent writes for a proxy, with what istiod would send standing in it, so that stock Envoy runs it alone.

import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { type Config, socketAddress } from "../../demo/telemetry-config.ts";
import { nodeId, podName, type Workload } from "../../demo/topology.ts";
import type { ProxyConfig } from "./manifests.ts";
import type { Extension, Resources } from "./resources.ts";

/** Istio's own tags that can match inside one of our stat names; all others are bound to the beginning of other names. */
const TAGS_BEFORE_EXTRA: readonly Config[] = [tag("response_code", "_rq(_(\\d{3}))$")];
const TAGS_AFTER_EXTRA: readonly Config[] = [
  tag("cache", "(cache\\.(.+?)\\.)"),
  tag("component", "(component\\.(.+?)\\.)"),
  tag("tag", "(tag\\.(.+?);\\.)"),
  tag("wasm_filter", "(wasm_filter\\.(.+?)\\.)"),
];
/** What Istio always publishes, as far as it concerns the filter. */
const REQUIRED_PREFIXES = ["cluster_manager", "listener_manager", "server", "cluster.xds-grpc", "wasm"];

export interface BootstrapOptions {
  readonly workload: Workload;
  readonly resources: Resources;
  readonly proxyConfig: ProxyConfig;
  readonly admin: string;
  /** Where the filters go that listeners name: one file each. */
  readonly folder: string;
  /** What the agent gets when it fetches the wasm. */
  readonly wasmFile: string;
}

/** What `envoy -c` takes. Writes the files of the extensions. */
export async function istioBootstrap(options: BootstrapOptions): Promise<Config> {
  const { workload, resources, proxyConfig, admin, folder, wasmFile } = options;
  for (const extension of resources.extensions) {
    const fetched = asFetched(extension, wasmFile);
    const resource = { "@type": "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig", ...fetched };
    await writeFile(extensionFile(folder, extension.name), JSON.stringify({ resources: [resource] }));
  }
  return {
    node: nodeConfig(workload),
    admin: { address: socketAddress(admin) },
    stats_flush_interval: "1s", // Istio leaves Envoy's 5 s
    stats_config: statsConfig(proxyConfig),
    static_resources: {
      listeners: resources.listeners.map(({ listener }) => withFileDiscovery(listener, folder)),
      clusters: resources.clusters,
    },
  };
}

/** As the agent hands an extension on: the wasm lies in a local file. */
export function asFetched(extension: Extension, wasmFile: string): Extension {
  return mapObjects(extension, (object) =>
    "remote" in object ? { local: { filename: wasmFile } } : object,
  ) as unknown as Extension;
}

/** ADS is a stream to istiod; here its resources lie in files. */
function withFileDiscovery(listener: Config, folder: string): Config {
  return mapObjects(listener, (object) => {
    const discovery = object["config_discovery"] as Config | undefined;
    if (discovery === undefined) return object;
    const { ads: _ads, ...source } = discovery["config_source"] as Config;
    const path = extensionFile(folder, String(object["name"]));
    return {
      ...object,
      config_discovery: { ...discovery, config_source: { ...source, path_config_source: { path } } },
    };
  });
}

function extensionFile(folder: string, name: string): string {
  return join(folder, `${encodeURIComponent(name)}.json`);
}

function mapObjects(config: object, change: (object: Config) => Config): Config {
  return JSON.parse(JSON.stringify(config), (_field, value: unknown) =>
    typeof value === "object" && value !== null && !Array.isArray(value) ? change(value as Config) : value,
  ) as Config;
}

function statsConfig({ extraStatTags, proxyStatsMatcher }: ProxyConfig): Config {
  const prefixes = ["reporter=", ...proxyStatsMatcher.inclusionPrefixes, ...REQUIRED_PREFIXES, "component", "istio"];
  return {
    use_all_default_tags: false,
    stats_tags: [
      ...TAGS_BEFORE_EXTRA,
      ...extraStatTags.map((name) => tag(name, `(${name}=\\.=(.*?);\\.;)`)),
      ...TAGS_AFTER_EXTRA,
    ],
    stats_matcher: { inclusion_list: { patterns: prefixes.map((prefix) => ({ prefix })) } },
  };
}

function tag(name: string, regex: string): Config {
  return { tag_name: name, regex };
}

function nodeConfig(workload: Workload): Config {
  const { name, app, version, namespace } = workload;
  return {
    id: nodeId(workload, "10.0.0.9"),
    cluster: `${app}.${namespace}`,
    metadata: {
      CLUSTER_ID: "Kubernetes",
      INTERCEPTION_MODE: "REDIRECT",
      ISTIO_VERSION: "1.28.0",
      LABELS: {
        app,
        version,
        "service.istio.io/canonical-name": app,
        "service.istio.io/canonical-revision": version,
      },
      NAME: podName(workload),
      NAMESPACE: namespace,
      OWNER: `kubernetes://apis/apps/v1/namespaces/${namespace}/deployments/${name}`,
      WORKLOAD_NAME: name,
    },
  };
}
