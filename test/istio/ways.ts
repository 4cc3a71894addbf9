// The two ways of installing the filter on Istio. The access log, and all that TCP needs, goes with either.

import {
  ACCESS_LOGS,
  type EnvoyFilter,
  EXCHANGING_TCP_FILTERS,
  FILTERS,
  type Patch,
  TCP_FILTERS,
  WASM_PLUGINS,
  type WasmPlugin,
} from "./manifests.ts";
import { applyEnvoyFilters, applyWasmPlugins, type Resources } from "./resources.ts";

export interface Way {
  readonly name: string;
  readonly plugins: readonly WasmPlugin[];
  readonly filters: readonly EnvoyFilter[];
}

export const WAYS: readonly Way[] = [
  { name: "WasmPlugin", plugins: WASM_PLUGINS, filters: [...ACCESS_LOGS, ...TCP_FILTERS] },
  { name: "EnvoyFilter", plugins: [], filters: [...ACCESS_LOGS, ...FILTERS, ...TCP_FILTERS] },
];

/** The same once every proxy has the filter, and TCP clients say who they are. */
export const EXCHANGING_WAYS: readonly Way[] = WAYS.map((way) => ({
  ...way,
  filters: way.filters.map((filter) => EXCHANGING_TCP_FILTERS[TCP_FILTERS.indexOf(filter)] ?? filter),
}));

/** What a proxy gets once the manifests are applied; `applied` collects the patches that matched something. */
export function install(way: Way, resources: Resources, applied?: Set<Patch>): Resources {
  return applyEnvoyFilters(way.filters, applyWasmPlugins(way.plugins, resources), applied);
}
