// What envoy/istio/ holds, read for tests.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { parseAllDocuments } from "yaml";
import type { Config } from "../../demo/telemetry-config.ts";
import { projectRoot } from "../../envoy/project.ts";

/** An object of Kubernetes; `Spec` is as Istio's reference has it, as far as the tests look. */
export interface Manifest<Spec> {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: { readonly name: string; readonly namespace: string };
  readonly spec: Spec;
}

/** https://istio.io/latest/docs/reference/config/networking/envoy-filter/ */
export type EnvoyFilter = Manifest<{ readonly priority?: number; readonly configPatches: readonly Patch[] }>;

export interface Patch {
  readonly applyTo: string;
  readonly match: {
    readonly context: string;
    readonly listener?: { readonly filterChain: { readonly filter: { readonly name: string } } };
  };
  readonly patch: { readonly operation: string; readonly value: Config };
}

/** https://istio.io/latest/docs/reference/config/proxy_extensions/wasm-plugin/ */
export type WasmPlugin = Manifest<{
  readonly selector: { readonly matchLabels: Readonly<Record<string, string>> };
  readonly match: readonly { readonly mode: string }[];
  readonly type: string;
  readonly phase: string;
  readonly priority: number;
  readonly pluginName: string;
  readonly url: string;
  readonly failStrategy: string;
  readonly pluginConfig: Config;
}>;

/** https://istio.io/latest/docs/reference/config/istio.mesh.v1alpha1/#ProxyConfig, as far as it is set. */
export interface ProxyConfig {
  readonly extraStatTags: readonly string[];
  readonly proxyStatsMatcher: { readonly inclusionPrefixes: readonly string[] };
}

/** What both ways of installing Istio are told. */
export interface MeshSettings {
  readonly meshConfig: { readonly defaultConfig: ProxyConfig };
  readonly pilot: { readonly env: Readonly<Record<string, string>> };
}

/** Every document of `envoy/istio/NAME`. Throws on what is no YAML. */
export function readDocuments(name: string): unknown[] {
  return parseAllDocuments(readFileSync(join(projectRoot(), "envoy", "istio", name), "utf8")).map((document) => {
    const [error] = document.errors;
    if (error !== undefined) throw new Error(`${name}: ${error.message}`);
    return document.toJS() as unknown;
  });
}

export const WASM_PLUGINS = readDocuments("wasm-plugin.yaml") as WasmPlugin[];
export const FILTERS = readDocuments("envoy-filter.yaml") as EnvoyFilter[];
export const ACCESS_LOGS = readDocuments("access-log.yaml") as EnvoyFilter[];
export const TCP_FILTERS = readDocuments("tcp.yaml") as EnvoyFilter[];
/** `tcp.yaml` as it is once every proxy has the filter: README.md, step 4. */
export const EXCHANGING_TCP_FILTERS = JSON.parse(
  JSON.stringify(TCP_FILTERS).replaceAll(String.raw`,\"metadata_exchange\":{\"tcp\":{\"send\":\"never\"}}`, ""),
) as EnvoyFilter[];
export const HELM_VALUES = readDocuments("helm-values.yaml")[0] as MeshSettings;
