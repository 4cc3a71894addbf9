// What istiod sends to one proxy, and what Istio's objects change in it: the part of WasmPlugin and EnvoyFilter that envoy/istio/ uses.
// Whatever else a manifest asks for is refused, so that none rests on something that is not tried here.

import type { Config } from "../../demo/telemetry-config.ts";
import type { EnvoyFilter, Patch, WasmPlugin } from "./manifests.ts";

/** By which side of the proxy istiod patches a listener. */
export type PatchContext = "SIDECAR_INBOUND" | "SIDECAR_OUTBOUND" | "GATEWAY";

export interface Listener extends Config {
  readonly filter_chains: readonly FilterChain[];
  readonly default_filter_chain?: FilterChain;
}

export interface FilterChain extends Config {
  readonly filters: readonly NetworkFilter[];
}

export interface NetworkFilter extends Config {
  readonly name: string;
  /** Absent from one that is discovered. */
  readonly typed_config: Config;
}

/** A resource of the extension config discovery service: a filter that listeners name and do not hold. */
export interface Extension {
  readonly name: string;
  readonly typed_config: Config;
}

export interface Resources {
  /** The pod's labels, by which Istio's objects select it. */
  readonly podLabels: Readonly<Record<string, string>>;
  readonly listeners: readonly { readonly context: PatchContext; readonly listener: Listener }[];
  readonly clusters: readonly Config[];
  readonly extensions: readonly Extension[];
}

export const CONNECTION_MANAGER = "envoy.filters.network.http_connection_manager";
export const TCP_PROXY = "envoy.filters.network.tcp_proxy";
const WASM_TYPE = "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm";
const RBAC_TYPE = "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC";

/** Plugins come before patches, as in istiod: a patch that inserts something first means before them too. */
export function applyWasmPlugins(plugins: readonly WasmPlugin[], resources: Resources): Resources {
  const chosen = plugins.filter(({ spec }) => isSelected(spec.selector.matchLabels, resources.podLabels));
  // The first of equal phase is the one of highest priority.
  return [...chosen].sort((a, b) => a.spec.priority - b.spec.priority).reduce(applyWasmPlugin, resources);
}

function applyWasmPlugin(resources: Resources, plugin: WasmPlugin): Resources {
  const { spec } = plugin;
  if (spec.type !== "HTTP" || spec.phase !== "AUTHN")
    throw new Error(`${spec.type} in ${spec.phase} is not tried here`);
  const name = `extensions.istio.io/wasmplugin/${plugin.metadata.namespace}.${plugin.metadata.name}`;
  const reference = {
    name,
    config_discovery: {
      config_source: { ads: {}, resource_api_version: "V3", initial_fetch_timeout: "0s" },
      type_urls: [WASM_TYPE, RBAC_TYPE],
    },
  };
  const modes = spec.match.map(({ mode }) => mode);
  return {
    ...resources,
    listeners: resources.listeners.map(({ context, listener }) => {
      const mode = context === "SIDECAR_INBOUND" ? "SERVER" : "CLIENT";
      if (!modes.includes(mode)) return { context, listener };
      return { context, listener: withConnectionManagers(listener, (filter) => insertFirst(filter, reference)) };
    }),
    extensions: [...resources.extensions, { name, typed_config: pluginConfig(plugin) }],
  };
}

function pluginConfig({ metadata, spec }: WasmPlugin): Config {
  return {
    "@type": WASM_TYPE,
    config: {
      name: `${metadata.namespace}.${metadata.name}`,
      root_id: spec.pluginName,
      failure_policy: spec.failStrategy,
      configuration: {
        "@type": "type.googleapis.com/google.protobuf.StringValue",
        value: JSON.stringify(spec.pluginConfig),
      },
      // No vm_id: all plugins of one image share a VM, as long as what follows is the same.
      vm_config: {
        runtime: "envoy.wasm.runtime.v8",
        code: { remote: { http_uri: { uri: spec.url, timeout: "30s", cluster: "_" } } },
        environment_variables: { key_values: { ISTIO_META_WASM_PLUGIN_RESOURCE_VERSION: "1" } },
      },
    },
  };
}

function isSelected(wanted: Readonly<Record<string, string>>, labels: Readonly<Record<string, string>>): boolean {
  return Object.entries(wanted).every(([name, value]) => labels[name] === value);
}

/** The resources as patched, in order of priority. `applied` gets each patch that matched something. */
export function applyEnvoyFilters(
  filters: readonly EnvoyFilter[],
  resources: Resources,
  applied: Set<Patch> = new Set(),
): Resources {
  const inOrder = [...filters].sort((a, b) => (a.spec.priority ?? 0) - (b.spec.priority ?? 0));
  return inOrder
    .flatMap(({ spec }) => spec.configPatches)
    .reduce((patched, patch) => {
      const next = applyPatch(patched, patch);
      if (next !== patched) applied.add(patch);
      return next;
    }, resources);
}

/** The same resources if nothing in them matches. */
function applyPatch(resources: Resources, patch: Patch): Resources {
  const { operation, value } = patch.patch;
  switch (`${patch.applyTo} ${operation}`) {
    case "CLUSTER ADD":
      if (patch.match.context !== "ANY")
        throw new Error(`a cluster for ${patch.match.context} alone is not tried here`);
      return { ...resources, clusters: [...resources.clusters, value] };
    case "EXTENSION_CONFIG ADD":
      // Sent to whoever asks for it by name.
      if (!JSON.stringify(resources.listeners).includes(JSON.stringify(value["name"]))) return resources;
      return { ...resources, extensions: [...resources.extensions, value as unknown as Extension] };
    case "NETWORK_FILTER MERGE":
      return patchFilters(resources, patch, (filter) => [mergeConfig(filter, value) as NetworkFilter]);
    case "NETWORK_FILTER INSERT_BEFORE":
      return patchFilters(resources, patch, (filter) => [value as NetworkFilter, filter]);
    case "HTTP_FILTER INSERT_FIRST":
      return patchFilters(resources, patch, (filter) => [insertFirst(filter, value)]);
    default:
      throw new Error(`${patch.applyTo} ${operation} is not tried here`);
  }
}

/** `change`: what stands in the place of each filter of the name that the patch matches. */
function patchFilters(
  resources: Resources,
  { match, applyTo }: Patch,
  change: (filter: NetworkFilter) => readonly NetworkFilter[],
): Resources {
  const name = match.listener?.filterChain.filter.name;
  if (name !== CONNECTION_MANAGER && (name !== TCP_PROXY || applyTo === "HTTP_FILTER")) {
    throw new Error(`a patch of ${applyTo} at ${name} is not tried here`);
  }
  const isConcerned = ({ context, listener }: Resources["listeners"][number]) =>
    context === match.context &&
    chainsOf(listener).some(({ filters }) => filters.some((filter) => filter.name === name));
  if (!resources.listeners.some(isConcerned)) return resources;
  const listeners = resources.listeners.map(({ context, listener }) => ({
    context,
    listener: context === match.context ? withFilters(listener, name, change) : listener,
  }));
  return { ...resources, listeners };
}

/** Every chain, the default one last. */
export function chainsOf({ filter_chains, default_filter_chain }: Listener): readonly FilterChain[] {
  return default_filter_chain === undefined ? filter_chains : [...filter_chains, default_filter_chain];
}

function withConnectionManagers(listener: Listener, change: (filter: NetworkFilter) => NetworkFilter): Listener {
  return withFilters(listener, CONNECTION_MANAGER, (filter) => [change(filter)]);
}

function withFilters(
  listener: Listener,
  name: string,
  change: (filter: NetworkFilter) => readonly NetworkFilter[],
): Listener {
  const changed = (chain: FilterChain) => ({
    ...chain,
    filters: chain.filters.flatMap((filter) => (filter.name === name ? change(filter) : [filter])),
  });
  const { default_filter_chain: last } = listener;
  return {
    ...listener,
    filter_chains: listener.filter_chains.map(changed),
    ...(last === undefined ? {} : { default_filter_chain: changed(last) }),
  };
}

function insertFirst(filter: NetworkFilter, httpFilter: Config): NetworkFilter {
  const present = filter.typed_config["http_filters"] as readonly Config[];
  return { ...filter, typed_config: { ...filter.typed_config, http_filters: [httpFilter, ...present] } };
}

/** As messages are merged: fields one by one, lists appended, the rest replaced. */
function mergeConfig(present: unknown, added: unknown): unknown {
  if (Array.isArray(present) && Array.isArray(added)) return [...present, ...added];
  if (!isMessage(present) || !isMessage(added)) return added;
  const merged = Object.entries(added).map(([field, value]) => {
    return [field, field in present ? mergeConfig(present[field], value) : value];
  });
  return { ...present, ...Object.fromEntries(merged) };
}

function isMessage(value: unknown): value is Config {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
