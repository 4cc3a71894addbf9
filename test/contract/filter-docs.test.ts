// docs/filter.md against the filter: every field that the code reads is there and no other, the defaults are those that it runs by, and
// the examples that a lone Envoy cannot run come out in the test host. The others: test/e2e/filter-docs.test.ts.

import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { projectRoot } from "../../envoy/project.ts";
import { FAULT_REASONS, MetricKind } from "../../filter/vocabulary/metrics.ts";
import { PEER_METADATA_HEADER } from "../../filter/vocabulary/peer-metadata.ts";
import type { Sample } from "../e2e/exposition.ts";
import {
  BLOCKS,
  type Call,
  EXAMPLES,
  type Example,
  FIELDS,
  isCall,
  type Outcome,
  PROXY,
  peerHeaders,
  SERVER,
  seen,
} from "../filter-docs.ts";
import type { TcpConnection } from "../host/connection.ts";
import type { HeaderPairs } from "../host/headers.ts";
import { type Host, type HttpStream, type StreamOptions, startFilter } from "../host/host.ts";
import {
  countedLabels,
  countedRequests,
  countedValues,
  exchangeHeaders,
  FROM_PRODUCTPAGE,
  faults,
  PRODUCTPAGE,
  PRODUCTPAGE_URI,
  REVIEWS_URI,
} from "../host/mesh.ts";
import { prefixOf, readPrefix } from "../host/prefix.ts";
import type { Json, JsonObject } from "../host/struct.ts";

const CONFIG_FOLDER = join(projectRoot(), "filter/config");
/** What reads a field of a Section, with the field's name as its first argument. */
const READ =
  /(?:\.(?:field|section|sections|bool|text|whole|durationMs|choice|texts)\(|readName\(section, )\s*"(\w+)"/g;

describe("fields", () => {
  test("every field that the code reads has a heading, and every heading is a field", () => {
    const sources = readdirSync(CONFIG_FOLDER).map((file) => readFileSync(join(CONFIG_FOLDER, file), "utf8"));
    const read = sources.flatMap((source) => [...source.matchAll(READ)].map(([, key]) => key));
    const described = FIELDS.flatMap(({ path }) => path.replaceAll("[]", "").split("."));
    expect([...new Set(described)].sort()).toEqual([...new Set(read)].sort());
  });

  test.each(FIELDS)("$path is read at that place: it is complained about when it is no such thing", ({ path }) => {
    const host = startFilter({ node: PROXY, configuration: at(path, -1.5) });
    const where = path.replaceAll("[]", "[0]");
    expect(host.logs.map(({ text }) => text.split(": expected")[0])).toContain(`meshtally: configuration: ${where}`);
  });

  test("all JSON is JSON", () => {
    expect(EXAMPLES.length).toBeGreaterThanOrEqual(30);
    for (const { json, title } of EXAMPLES) expect(() => JSON.parse(json), title).not.toThrow();
    const languages = BLOCKS.map(({ language }) => language);
    expect([...new Set(languages)].sort()).toEqual(["json", "text", "yaml"]); // each of which a test reads
  });

  test("every reason of a fault has a line that says what to do", () => {
    const text = readFileSync(join(projectRoot(), "docs/filter.md"), "utf8");
    const [, faultsSection = ""] = /^## Faults\n(.*?)^## /ms.exec(text) ?? [];
    const rows = faultsSection.split("\n").filter((line) => line.startsWith("| `") && !line.includes("look at"));
    const named = rows.flatMap((row) => [...(row.split(" | ")[0] ?? "").matchAll(/`(\w+)`/g)].map(([, name]) => name));
    expect(named.sort()).toEqual([...FAULT_REASONS].sort());
  });
});

/** Without these an entry of such a list is left out. */
const NEEDED: Readonly<Record<string, JsonObject>> = {
  definitions: { name: "mine", value: "1" },
  attributes: { output_attribute: "istio_operationId" },
};

/** A configuration with that value at a path like "classification.attributes[].match[].value", and what is needed beside it. */
function at(path: string, value: Json): JsonObject {
  const [first = "", ...rest] = path.split(".");
  const inner = rest.length === 0 ? value : at(rest.join("."), value);
  if (!first.endsWith("[]")) return { [first]: inner };
  const list = first.slice(0, -2);
  return { [list]: [{ ...NEEDED[list], ...(inner as JsonObject) }] };
}

/** Fields whose default is seen from outside: what the filter does with a value, and another value for which it does something else. */
const PROBES: Readonly<
  Record<string, { readonly other: Json; readonly probe: (configuration: JsonObject) => unknown }>
> = {
  direction: { other: "outbound", probe: (configuration) => labelsOf(configuration, inboundCall()) },
  reporter: { other: "SERVER_GATEWAY", probe: (configuration) => labelsOf(configuration, inboundCall()) },
  disable_host_header_fallback: { other: true, probe: (configuration) => labelsOf(configuration, outboundCall()) },
  source_security_policy: { other: true, probe: (configuration) => labelsOf(configuration, outboundCall()) },
  max_label_sets: { other: 999, probe: countLabelSets },
  tcp_reporting_duration: {
    other: "15s",
    probe: (configuration) => [...startFilter({ node: PROXY, configuration }).tickPeriodMs.values()],
  },
  "host_normalization.strip_port": { other: false, probe: (configuration) => labelsOf(configuration, outboundCall()) },
  "metadata_exchange.skip_external_clusters": { other: false, probe: sentOutside },
  "metadata_exchange.additional_labels": { other: ["team"], probe: sentInside },
  "metadata_exchange.max_header_bytes": { other: 16385, probe: headersUnderstood },
  "metadata_exchange.tcp.send": { other: "always", probe: (configuration) => toldOverTcp(configuration) },
  "metadata_exchange.tcp.clusters": { other: ["outbound|*"], probe: (configuration) => toldOverTcp(configuration) },
  "metadata_exchange.tcp.timeout": { other: "2s", probe: heldOverTcp },
  "access_log_policy.log_window_duration": { other: "11h", probe: loggedAfterHours },
  "access_log_policy.slow_request_duration": { other: "1001ms", probe: loggedAsSlow },
  "access_log_policy.max_client_cache_size": { other: 501, probe: firstClientAgain },
  "metrics[].name": { other: "requests_total", probe: (fields) => keptOf({ tags_to_remove: ["reporter"] }, fields) },
  "metrics[].tags_to_remove": { other: ["reporter"], probe: (fields) => keptOf({}, fields) },
  "metrics[].drop": { other: true, probe: (fields) => keptOf({ name: "requests_total" }, fields) },
  "metrics[].match": { other: "false", probe: (fields) => keptOf({ name: "requests_total", drop: true }, fields) },
  "definitions[].type": { other: "GAUGE", probe: definedKind },
  "classification.attributes[].match[].condition": { other: "false", probe: (fields) => classified("'x'", fields) },
  "classification.attributes[].match[].value": { other: "y", probe: (fields) => classified(undefined, fields) },
};

describe("defaults", () => {
  const stated = FIELDS.filter((field) => /^[[{"\d]|^true$|^false$/.test(field.default));

  test("every default that is a value is checked", () => {
    expect(Object.keys(PROBES).sort()).toEqual(stated.map(({ path }) => path).sort());
  });

  test.each(stated)("$path: $default", ({ path, default: text }) => {
    const { other, probe } = PROBES[path] as (typeof PROBES)[string];
    const value = JSON.parse(text.split(",")[0] as string) as Json;
    const section = path.includes(".") && !path.includes("[]") ? at(path.split(".")[0] as string, {}) : {};
    const without = probe(section);
    expect(probe(at(path, value))).toEqual(without);
    expect(probe(at(path, other))).not.toEqual(without);
  });
});

const HOUR_NS = 3_600_000_000_000n;

function inboundCall(): StreamOptions & { direction: "inbound" } {
  return { ...FROM_PRODUCTPAGE, direction: "inbound" };
}

/** To a cluster that does not say what service it is. */
function outboundCall(host = "Ratings:9080"): StreamOptions & { direction: "outbound" } {
  const requestHeaders = [[":authority", host], ...headersOf("GET", "/")] as HeaderPairs;
  return {
    direction: "outbound",
    requestHeaders,
    cluster: { name: CLUSTER },
    routeName: "default",
    upstreamTls: { peer: PRODUCTPAGE_URI, local: REVIEWS_URI },
  };
}

function startWith(configuration: JsonObject, direction: "inbound" | "outbound"): Host {
  return startFilter({ node: PROXY, configuration, direction });
}

function labelsOf(configuration: JsonObject, call: StreamOptions & { direction: "inbound" | "outbound" }) {
  const host = startWith(configuration, call.direction);
  host.request(call);
  return countedLabels(host);
}

function countLabelSets(configuration: JsonObject): number {
  const host = startWith(configuration, "outbound");
  for (let i = 0; i < 1010; i++) host.request(outboundCall(`host-${i}`));
  return countedRequests(host).length;
}

function sentTo(configuration: JsonObject, cluster: string) {
  const stream = startWith(configuration, "outbound").request({ ...outboundCall(), cluster: { name: cluster } });
  return stream.requestHeaders.get(PEER_METADATA_HEADER);
}

function sentOutside(configuration: JsonObject) {
  return sentTo(configuration, PASSTHROUGH);
}

function sentInside(configuration: JsonObject) {
  return sentTo(configuration, CLUSTER);
}

/** Which lengths around the default are taken: a Struct has no filler, so the header is none, and is counted as this or that. */
function headersUnderstood(configuration: JsonObject) {
  return [16_384, 16_385, 16_386].map((size) => {
    const host = startWith(configuration, "inbound");
    const requestHeaders = [...headersOf("GET", "/"), [PEER_METADATA_HEADER, "!".repeat(size)]] as HeaderPairs;
    host.request({ ...FROM_PRODUCTPAGE, requestHeaders });
    return faults(host);
  });
}

/** Whether a server of which nothing is known is told who calls. */
function toldOverTcp(configuration: JsonObject): boolean {
  const connection = startWith(configuration, "outbound")
    .connection({ cluster: { name: CLUSTER } })
    .open();
  return readPrefix(connection.fromClient("a").toServer) !== undefined;
}

/** How many bytes of a cut prefix have passed after the default time. */
function heldOverTcp(configuration: JsonObject): number {
  const host = startWith(configuration, "inbound");
  const connection = host.connection().fromClient(prefixOf(PRODUCTPAGE).subarray(0, 20));
  host.advance(1000);
  return connection.toServer.length;
}

function policyOf(stream: HttpStream): string | undefined {
  return stream.filterState.get("wasm.istio.access_log_policy")?.toString("latin1");
}

function loggedAfterHours(configuration: JsonObject) {
  const host = startWith(configuration, "inbound");
  const start = host.nowNs;
  return [0n, 11n * HOUR_NS, 12n * HOUR_NS - 1_000_000n, 12n * HOUR_NS].map((after) => {
    host.nowNs = start + after;
    return policyOf(host.request(inboundCall()));
  });
}

function loggedAsSlow(configuration: JsonObject) {
  const host = startWith(configuration, "inbound");
  host.request(inboundCall());
  return [999n, 1000n, 1001n].map((ms) => policyOf(host.request({ ...inboundCall(), durationNs: ms * 1_000_000n })));
}

/** What is said to the first client after 500 others, or 499. */
function firstClientAgain(configuration: JsonObject) {
  return [499, 500].map((others) => {
    const host = startWith(configuration, "inbound");
    const ask = (i: number) =>
      policyOf(host.request({ ...inboundCall(), properties: { "source.address": `10.0.${i >> 8}.${i & 255}:1` } }));
    for (let i = 0; i <= others; i++) ask(i);
    return ask(0);
  });
}

/** The names of the metrics that carry `reporter`, with an entry of these fields and those of the configuration's. */
function keptOf(base: JsonObject, configuration: JsonObject): string[] {
  const [fields] = (configuration["metrics"] as JsonObject[] | undefined) ?? [{}];
  const host = startWith({ metrics: [{ ...base, ...fields }] }, "outbound");
  host.request(outboundCall());
  return host.series().flatMap(({ name, labels }) => ("reporter" in labels ? [name] : []));
}

function definedKind(configuration: JsonObject) {
  const [fields] = (configuration["definitions"] as JsonObject[] | undefined) ?? [{}];
  const host = startWith({ definitions: [{ name: "mine", value: "1", ...fields }] }, "outbound");
  host.request(outboundCall());
  return host.series("istio_mine").map(({ kind }) => MetricKind[kind]);
}

/** What an attribute is, of a condition with that value and the configuration's fields. */
function classified(value: string | undefined, configuration: JsonObject) {
  const fields = (
    (configuration["classification"] as JsonObject | undefined)?.["attributes"] as JsonObject[] | undefined
  )?.[0];
  const match = {
    ...(value === undefined ? {} : { value }),
    ...((fields?.["match"] as JsonObject[] | undefined)?.[0] ?? {}),
  };
  const host = startWith(
    {
      classification: { attributes: [{ output_attribute: "istio_operationId", match: [match] }] },
      metrics: [{ name: "requests_total", dimensions: { reporter: "istio_operationId" } }],
    },
    "outbound",
  );
  host.request(outboundCall());
  return countedValues(host, "reporter");
}

const CLUSTER = "outbound|9080||ratings";
const PASSTHROUGH = "PassthroughCluster";

function headersOf(method: string, path: string): HeaderPairs {
  return [
    [":path", path],
    [":method", method],
  ];
}

describe("examples in the test host", () => {
  const inHost = EXAMPLES.filter(({ isForHost }) => isForHost);

  test.each(inHost.map((example) => ({ ...example, example })))("$title", ({ example }) => {
    const host = startFilter({
      node: PROXY,
      configuration: example.json,
      direction: example.isInbound ? "inbound" : "outbound",
    });
    const logged: string[] = [];
    let stream: HttpStream | undefined;
    let connection: TcpConnection | undefined;
    for (const step of example.steps) {
      if (!isCall(step)) {
        const outcome = outcomeOf(host, stream, logged);
        expect(seen(step, connection === undefined ? outcome : { ...outcome, ...exchanged(connection) })).toEqual(step);
      } else if (step.method === "TCP") {
        connection = runTcp(host, example, step);
      } else {
        for (let i = 0; i < step.times; i++) stream = run(host, example, step);
        if (stream !== undefined && policyOf(stream) === "yes") logged.push(step.path);
      }
    }
  });
});

function run(host: Host, example: Example, call: Call): HttpStream {
  const isGrpc = call.method === "gRPC";
  const { host: authority = "ratings:9080", ...headers } = call.headers;
  const answerer = example.isInbound ? [] : exchangeHeaders(SERVER);
  const tls = call.isMutualTls ? { peer: PRODUCTPAGE_URI, local: REVIEWS_URI } : {};
  const stream = host.stream({
    requestHeaders: [
      [":authority", authority],
      ...headersOf(isGrpc ? "POST" : call.method, call.path),
      ...(isGrpc ? ([["content-type", "application/grpc"]] as HeaderPairs) : []),
      ...Object.entries({ ...headers, ...peerHeaders(call) }),
    ],
    responseHeaders: [[":status", "200"], ...answerer],
    ...(isGrpc ? { responseTrailers: [["grpc-status", "0"]] as HeaderPairs } : {}),
    routeName: "default",
    cluster: { name: call.isExternal ? PASSTHROUGH : CLUSTER },
    downstreamTls: tls,
    upstreamTls: tls,
    properties: { "source.address": `${call.client}:40000`, "upstream.address": "10.0.0.3:9080" },
    ...(isGrpc ? { filterState: { "envoy.filters.http.grpc_stats": call.messages.join() } } : {}),
  });
  if (!call.isOpen) return stream.finish();
  stream.sendRequestHeaders().sendResponseHeaders();
  expect([...host.tickPeriodMs.values()]).toEqual([1000]);
  host.tick();
  return stream;
}

/** The server answers in kind if it is told who calls. */
function runTcp(host: Host, example: Example, call: Call): TcpConnection {
  const tls = call.isMutualTls ? { peer: PRODUCTPAGE_URI, local: REVIEWS_URI } : {};
  const mesh = { metadata: { "envoy.transport_socket_match": { tlsMode: "istio" } } };
  const connection = host.connection({
    cluster: { name: call.cluster ?? (call.isExternal ? PASSTHROUGH : CLUSTER) },
    ...(call.isMeshEndpoint ? { endpoint: mesh } : {}),
    downstreamTls: tls,
    upstreamTls: tls,
  });
  const [bytes, bytesBack] = call.bytes;
  const said = call.isFromPeer ? prefixOf(PRODUCTPAGE) : Buffer.alloc(0);
  connection.fromClient(Buffer.concat([said, Buffer.alloc(bytes, "a")]));
  const isTold = !example.isInbound && readPrefix(connection.toServer) !== undefined;
  connection.fromServer(Buffer.concat([isTold ? prefixOf(SERVER) : Buffer.alloc(0), Buffer.alloc(bytesBack, "b")]));
  if (!call.isOpen) return connection.finish();
  host.advance(1000);
  return connection;
}

/** What of the exchange went out on either side of a connection, as if it were headers. */
function exchanged(connection: TcpConnection): Pick<Outcome, "toServer" | "toCaller"> {
  const headers = (bytes: Buffer) => (readPrefix(bytes) === undefined ? {} : { [PEER_METADATA_HEADER]: "" });
  return { toServer: headers(connection.toServer), toCaller: headers(connection.toClient) };
}

function outcomeOf(host: Host, stream: HttpStream | undefined, logged: readonly string[]): Outcome {
  const samples: Sample[] = host.series().map(({ name, labels, kind, value, samples }) => {
    if (kind !== MetricKind.Histogram) return { name, labels, value: Number(value) };
    return { name: `${name}_count`, labels, value: samples.length };
  });
  return {
    samples: samples.filter(({ value }) => value !== 0),
    toServer: Object.fromEntries(stream?.requestHeaders.pairs() ?? []),
    toCaller: Object.fromEntries(stream?.responseHeaders.pairs() ?? []),
    logged,
  };
}
