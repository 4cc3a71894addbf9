// Customised metrics on real Envoy: what a test host cannot vouch for, since only Envoy evaluates its CEL.

import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { AccessRecord } from "../../collector/record/record.ts";
import { unpackLabels } from "../../collector/series/key.ts";
import { LABELS, PEER_METADATA_HEADER } from "../../collector/vocabulary.ts";
import type { Config } from "../../demo/telemetry-config.ts";
import { encodeStruct } from "../host/struct.ts";
import { parseExposition, type Sample } from "./exposition.ts";
import { type LoneProxy, plainConfig, startLoneProxy } from "./lone-proxy.ts";
import { settled } from "./observed.ts";

/** The proxy's outbound plugin configuration; each request goes to a path of its own. */
const PLUGIN: Config = {
  metrics: [
    {
      dimensions: {
        request_host: "request.host",
        destination_port: "string(destination.port)",
        code_class: "response.code < 500 ? 'fine' : 'broken'",
        header: "request.headers['x-tenant']",
        peer: "filter_state.upstream_peer.workload",
        peer_app: "upstream_peer.labels['app'].value",
        own_name: "node.metadata['NAME']",
        to: "cluster_name",
        operation: "istio_operationId",
        long_operation: "'op:' + istio_operationId",
        broken_at_run: "request.headers",
        broken_at_parse: "request.host ==",
        source_app: "'overridden'",
        source_version: "this does not parse",
      },
    },
    { name: "requests_total", dimensions: { app: "'of its own'" } },
    { name: "request_bytes", drop: true },
    { name: "response_bytes", tags_to_remove: ["response_flags", "source_cluster"] },
    { name: "requests_total", match: "request.path == '/health'", drop: true },
    { match: "request.path == '/tag'", dimensions: { tagged: "'yes'" } },
    { match: "request.path ==", drop: true, name: "requests_total" },
  ],
  definitions: [
    { name: "answered_bytes", value: "response.size", type: "COUNTER" },
    { name: "path_size", value: "size(request.path)", type: "HISTOGRAM" },
    { name: "last_code", value: "response.code", type: "GAUGE" },
    { name: "requests_total", value: "7" },
    { name: "none", value: "no such( thing" },
  ],
  classification: {
    attributes: [
      {
        output_attribute: "istio_operationId",
        match: [
          { value: "GetReview", condition: "request.path.startsWith('/reviews/') && request.method == 'GET'" },
          { value: "Health", condition: "request.path == '/health'" },
          { value: "Other" },
        ],
      },
    ],
  },
};
const ADDED = [
  "request_host",
  "destination_port",
  "code_class",
  "header",
  "peer",
  "peer_app",
  "own_name",
  "to",
  "operation",
  "long_operation",
  "broken_at_run",
  "tagged",
  "app",
];

let proxy: LoneProxy;
let samples: Sample[];

async function get(path: string, headers: Record<string, string> = {}): Promise<void> {
  const response = await fetch(`http://127.0.0.1:${proxy.outboundPort}${path}`, { headers });
  await response.text();
}

/** Series of a metric, or of a part of it, by the operation that the request was. */
function byOperation(metric: string): Record<string, Sample[]> {
  const found: Record<string, Sample[]> = {};
  for (const sample of samples) {
    if (sample.name !== metric) continue;
    const operation = sample.labels["operation"] ?? "";
    found[operation] = [...(found[operation] ?? []), sample];
  }
  return found;
}

/** Operation -> sum of the values. */
function totals(metric: string): Record<string, number> {
  return Object.fromEntries(
    Object.entries(byOperation(metric)).map(([operation, found]) => [
      operation,
      found.reduce((sum, { value }) => sum + value, 0),
    ]),
  );
}

function labelsOf({ labelKey }: AccessRecord): Record<string, string> {
  const values = unpackLabels(labelKey);
  return Object.fromEntries(LABELS.map((label, index) => [label, values?.[index] ?? "?"]));
}

const PEER = encodeStruct({ WORKLOAD_NAME: "reviews-v1", NAMESPACE: "default", LABELS: { app: "reviews" } });

beforeAll(async () => {
  const answer = (path: string): Record<string, string> =>
    path === "/reviews/1" ? { [PEER_METADATA_HEADER]: PEER.toString("base64") } : {};
  proxy = await startLoneProxy(answer, (places) => plainConfig(places, PLUGIN, ADDED));
  await get("/reviews/1", { "x-tenant": "red" });
  await get("/reviews/2");
  await get("/reviews/3");
  await get("/health");
  await get("/tag", { "x-tenant": "red" });
  const read = async () =>
    parseExposition(await (await fetch(`${proxy.adminUrl}/stats/prometheus?filter=istio_|meshtally_`)).text());
  // Histograms show what they hold from one flush of the stats to the next.
  samples = await settled(read, (all) => all.some(({ name, value }) => name === "istio_path_size_count" && value > 0));
}, 60_000);

afterAll(() => proxy?.stop());

describe("dimensions", () => {
  const first = (operation: string, tenant: string): Readonly<Record<string, string>> =>
    byOperation("istio_requests_total")[operation]?.find(({ labels }) => labels["header"] === tenant)?.labels ?? {};

  test("are evaluated by Envoy, in Istio's spelling and in today's", () => {
    const address = `127.0.0.1:${proxy.outboundPort}`;
    expect(first("GetReview", "red")).toMatchObject({
      request_host: address,
      destination_port: String(proxy.outboundPort),
      code_class: "fine",
      header: "red",
      peer: "reviews-v1",
      peer_app: "reviews",
      own_name: "lone-1",
      to: "outbound|80||server.default.svc.cluster.local",
      long_operation: "op:GetReview",
    });
  });

  test("that cannot be evaluated for a request read unknown, and no other suffers", () => {
    expect(first("GetReview", "unknown")).toMatchObject({
      code_class: "fine",
      header: "unknown",
      peer: "unknown",
      peer_app: "unknown",
      broken_at_run: "unknown",
    });
  });

  test("that do not parse are left out; on a standard label, that label is", () => {
    const labels = Object.keys(first("GetReview", "red"));
    expect(labels).not.toContain("broken_at_parse");
    expect(labels).not.toContain("source_version");
    expect(first("GetReview", "red")).toMatchObject({ source_app: "overridden" });
  });

  test("whose name is the end of another's are told from it", () => {
    for (const sample of samples.filter(({ name }) => name.startsWith("istio_") && name !== "istio_build")) {
      const isItsMetric = sample.name === "istio_requests_total";
      expect(sample.labels["app"], sample.name).toBe(isItsMetric ? "of its own" : undefined);
      expect(sample.labels["source_app"]).toBe("overridden");
    }
  });

  test("leave no part of themselves in a metric's name", () => {
    const names = new Set(samples.map(({ name }) => name).filter((name) => name.includes("istio")));
    for (const name of names) expect(name).toMatch(/^istio_[a-z_]+$/);
  });
});

describe("metrics", () => {
  test("a metric that is dropped is not there, tags that are removed neither", () => {
    expect(samples.some(({ name }) => name.startsWith("istio_request_bytes"))).toBe(false);
    for (const sample of Object.values(byOperation("istio_response_bytes_count")).flat()) {
      expect(Object.keys(sample.labels)).not.toContain("response_flags");
      expect(Object.keys(sample.labels)).not.toContain("source_cluster");
      expect(Object.keys(sample.labels)).toContain("reporter");
    }
  });

  test("an entry holds for the requests that its condition matches; one with a broken condition for none", () => {
    expect(totals("istio_requests_total")).toEqual({ GetReview: 3, Other: 1 });
    expect(totals("istio_request_duration_milliseconds_count")).toEqual({ GetReview: 3, Health: 1, Other: 1 });
    expect(byOperation("istio_requests_total")["Other"]?.[0]?.labels).toMatchObject({ tagged: "yes" });
    expect(Object.keys(byOperation("istio_requests_total")["GetReview"]?.[0]?.labels ?? {})).not.toContain("tagged");
  });
});

test("definitions: counter, histogram and gauge, with the configured labels alone", () => {
  expect(totals("istio_answered_bytes")).toEqual({ GetReview: 6, Health: 2, Other: 2 });
  expect(totals("istio_path_size_count")).toEqual({ GetReview: 3, Health: 1, Other: 1 });
  expect(byOperation("istio_last_code")["Health"]?.map(({ value }) => value)).toEqual([200]);
  expect(Object.keys(byOperation("istio_answered_bytes")["Health"]?.[0]?.labels ?? {})).not.toContain("reporter");
  expect(samples.some(({ name }) => name === "istio_none")).toBe(false);
});

test("the access log tells the same: what was dropped is omitted, and labels that differ are split", async () => {
  await expect.poll(() => proxy.records.filter(({ requests }) => requests > 0).length).toBe(4);
  expect(proxy.records.filter(({ durationMs }) => durationMs >= 0)).toHaveLength(5);
  expect(proxy.records.filter(({ requestBytes }) => requestBytes >= 0)).toHaveLength(0);
  const labelsOfBytes = proxy.records.filter(({ responseBytes }) => responseBytes >= 0).map(labelsOf);
  expect(labelsOfBytes).toHaveLength(5);
  for (const labels of labelsOfBytes) expect(labels).toMatchObject({ response_flags: "", source_app: "overridden" });
});

test("what is broken is counted", () => {
  const faults = samples.filter(({ name }) => name === "meshtally_filter_faults_total");
  expect(faults.map(({ labels }) => labels["reason"])).toEqual(["configuration"]);
});
