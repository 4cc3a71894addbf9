// What bench:filter compares: no filter, ours, the same job by other means, and the floor. Each wasm has a VM of its own, so that it is
// measured as if it were alone.

import { LABELS } from "../../collector/vocabulary.ts";
import { type Config, filterConfig } from "../../demo/telemetry-config.ts";
import { filterWasmPath } from "../../envoy/project.ts";
import type { Variant } from "./bench-envoy.ts";

export const BARE = { OUTBOUND: "bare, outbound", INBOUND: "bare, inbound" } as const;
export const OUTBOUND = "filter, outbound";
export const INBOUND = "filter, inbound";
export const NO_EXCHANGE = "filter without exchange, outbound";
export const LOGGER = "filter's wasm as access logger, outbound";
export const NATIVE = "Envoy's native stats logger, outbound";
export const RUST_OUTBOUND = "Rust filter, outbound";
export const RUST_INBOUND = "Rust filter, inbound";
const FLOOR = "floor: a log callback that returns at once, outbound";

/** What runs without Rust. */
export function variants(floorWasm: string): Variant[] {
  const wasm = filterWasmPath();
  const noExchange = JSON.stringify({ direction: "outbound", metadata_exchange: { directions: [] } });
  return [
    { name: BARE.OUTBOUND, direction: "OUTBOUND" },
    { name: BARE.INBOUND, direction: "INBOUND" },
    { name: FLOOR, direction: "OUTBOUND", filter: wasmFilter(plugin("floor", floorWasm, "")) },
    { name: NATIVE, direction: "OUTBOUND", accessLog: nativeStatsLogger() },
    {
      name: LOGGER,
      direction: "OUTBOUND",
      accessLog: wasmAccessLog(plugin("meshtally_access_logger", wasm, noExchange)),
    },
    {
      name: NO_EXCHANGE,
      direction: "OUTBOUND",
      filter: wasmFilter(plugin("meshtally_no_exchange", wasm, noExchange)),
    },
    { name: OUTBOUND, direction: "OUTBOUND", filter: filterConfig("outbound", wasm) },
    { name: INBOUND, direction: "INBOUND", filter: filterConfig("inbound", wasm) },
  ];
}

export function rustVariants(rustWasm: string): Variant[] {
  return [
    {
      name: RUST_OUTBOUND,
      direction: "OUTBOUND",
      filter: wasmFilter(plugin("rust_outbound", rustWasm, "outbound")),
    },
    { name: RUST_INBOUND, direction: "INBOUND", filter: wasmFilter(plugin("rust_inbound", rustWasm, "inbound")) },
  ];
}

/** For bench:memory: label sets by the thousand, without a peer, so that the authority alone makes them. */
export function memoryVariants(): Variant[] {
  const configuration = JSON.stringify({
    direction: "outbound",
    metadata_exchange: { directions: [] },
    max_label_sets: 100_000,
  });
  return [
    {
      name: "filter",
      direction: "OUTBOUND",
      filter: wasmFilter(plugin("meshtally_memory", filterWasmPath(), configuration)),
    },
    { name: "Envoy's native stats logger", direction: "OUTBOUND", accessLog: nativeStatsLogger() },
  ];
}

function plugin(vmId: string, wasmFile: string, configuration: string): Config {
  return {
    name: vmId,
    root_id: vmId,
    vm_config: {
      vm_id: vmId,
      runtime: "envoy.wasm.runtime.v8",
      code: { local: { filename: wasmFile } },
    },
    configuration: { "@type": "type.googleapis.com/google.protobuf.StringValue", value: configuration },
  };
}

function wasmFilter(config: Config): Config {
  return {
    name: "envoy.filters.http.wasm",
    typed_config: { "@type": "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm", config },
  };
}

/** Envoy then enters the VM for the log alone, with the root context. */
function wasmAccessLog(config: Config): Config {
  return {
    name: "envoy.access_loggers.wasm",
    typed_config: { "@type": "type.googleapis.com/envoy.extensions.access_loggers.wasm.v3.WasmAccessLog", config },
  };
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
