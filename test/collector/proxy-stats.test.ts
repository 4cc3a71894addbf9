// Envoy's own stats: families of the metrics service -> ProxyStats -> lines of /metrics.

import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import { describe, expect, test } from "vitest";
import { MetricFamilyReader } from "../../collector/proto/metric-family.ts";
import { ProxyStats, proxyLabels } from "../../collector/proxy-stats/proxy-stats.ts";
import { PROXY_STATS } from "../../collector/proxy-stats/stats.ts";
import { readProxyStat } from "../../collector/record/proxy-stats.ts";
import { LabelTexts, readLabelText } from "../../collector/record/stats-labels.ts";
import { LabelMessages, StatsProtobuf } from "../../collector/record/stats-protobuf.ts";
import { StatsText } from "../../collector/record/stats-text.ts";
import { DEFAULT_BOUNDS } from "../../collector/series/histogram.ts";
import { parseExposition } from "../e2e/exposition.ts";
import type { Fields } from "../fixtures/als.ts";
import { encodeDelimited, encodeFamily } from "../fixtures/metric-family.ts";
import { readProtobufStats, readStats } from "../fixtures/stats.ts";

const NAME = { service: "web.default", instance: "web-1.default" };
const WEB = proxyLabels(NAME);
const OUTBOUND = "outbound|80|v1|b.default.svc.cluster.local";
const indexOf = (name: string) => PROXY_STATS.findIndex((stat) => stat.name === name);

function read(name: string, value: Fields, label: Fields[] = []) {
  const bytes = encodeFamily({ name, metric: [{ label, ...value }] });
  const family = new MetricFamilyReader();
  expect(family.open(bytes, 0, bytes.length) && family.next()).toBe(true);
  const told = readProxyStat(family);
  return told && { ...told, stat: PROXY_STATS[told.stat]?.name };
}

describe("a family of the metrics service", () => {
  const gauge = { gauge: { value: 3 } };
  const counter = { counter: { value: 3 } };
  const tag = (value: string) => [
    { name: "a", value: "b" },
    { name: "envoy.cluster_name", value },
  ];

  test.each<[string, Fields, Fields[], string, string]>([
    [`cluster.${OUTBOUND}.upstream_cx_active`, gauge, [], "envoy_cluster_upstream_cx_active", OUTBOUND],
    ["cluster.xds-grpc.upstream_rq_total", counter, [], "envoy_cluster_upstream_rq_total", "xds-grpc"],
    ["cluster.é.membership_healthy", gauge, [], "envoy_cluster_membership_healthy", "é"],
    ["cluster.upstream_cx_active", gauge, tag(OUTBOUND), "envoy_cluster_upstream_cx_active", OUTBOUND],
    [
      "cluster.default.svc.cluster.local.upstream_cx_active",
      gauge,
      tag("outbound|80|v1|b"),
      "envoy_cluster_upstream_cx_active",
      OUTBOUND,
    ],
    ["server.memory_allocated", gauge, [], "envoy_server_memory_allocated", ""],
    ["server.envoy_bug_failures", counter, [], "envoy_server_envoy_bug_failures", ""],
  ])("%s", (name, value, label, stat, cluster) => {
    expect(read(name, value, label)).toEqual({ stat, cluster, value: 3 });
  });

  test.each<[string, string, Fields, Fields[]]>([
    ["a stat that is not shown", "cluster.a.upstream_rq_200", counter, []],
    ["one of another kind", "cluster.a.upstream_cx_active", counter, []],
    ["a cluster without a name", "cluster.upstream_cx_active", gauge, []],
    ["a cluster with an empty one", "cluster..upstream_cx_active", gauge, []],
    ["a server's stat of a cluster", "server.upstream_cx_active", gauge, []],
    ["a name that goes on", "cluster.a.upstream_cx_active_and_a_long_rest_behind_it", gauge, []],
    ["a name that only begins so", "clusters.a.upstream_cx_active", gauge, []],
    ["no number", "server.memory_allocated", { gauge: { value: Number.NaN } }, []],
    ["a histogram", "cluster.a.upstream_cx_total", { histogram: { sampleCount: 1 } }, []],
    ["a name of nothing", "", gauge, []],
  ])("%s is passed over", (_name, name, value, label) => {
    expect(read(name, value, label)).toBeNull();
  });
});

describe("a scrape's sample", () => {
  const label = (value: string) => ({ name: "envoy_cluster_name", value });
  const CASES: readonly (readonly [name: string, cluster: string, stat: string, full: string])[] = [
    ["envoy_cluster_upstream_cx_active", OUTBOUND, "envoy_cluster_upstream_cx_active", OUTBOUND],
    ["envoy_cluster_membership_healthy", "é", "envoy_cluster_membership_healthy", "é"],
    [
      "envoy_cluster_my_ns_svc_cluster_local_upstream_rq_pending_active",
      "outbound|80||b",
      "envoy_cluster_upstream_rq_pending_active",
      "outbound|80||b.my-ns.svc.cluster.local",
    ],
    ["envoy_cluster_example_org_upstream_cx_active", "www", "envoy_cluster_upstream_cx_active", "www.example.org"],
    ["envoy_server_memory_allocated", "", "envoy_server_memory_allocated", ""],
  ];
  const OTHERS: readonly (readonly [name: string, cluster: string])[] = [
    ["envoy_cluster_upstream_rq_200", "c"],
    ["envoy_cluster_upstream_cx_active", ""],
    ["envoy_server_upstream_cx_active", "c"],
    ["envoy_cluster_upstream_cx_active_more", "c"],
    ["envoy_http_downstream_cx_active", "c"],
  ];
  const labelled = (cluster: string) => (cluster === "" ? "" : `envoy_cluster_name="${cluster}"`);
  const text = [...CASES, ...OTHERS].map(([name, cluster]) => `${name}{${labelled(cluster)}} 7\n`).join("");
  const protobuf = encodeDelimited(
    [...CASES, ...OTHERS].map(([name, cluster]) =>
      encodeFamily({ name, type: 1, metric: [{ label: cluster === "" ? [] : [label(cluster)], gauge: { value: 7 } }] }),
    ),
  );
  const expected = CASES.map(([, , stat, cluster]) => ({ stat: indexOf(stat), cluster, value: 7 }));

  test.each([1, 7, 1000])("is read of text that comes in pieces of %i bytes", (size) => {
    const reader = new StatsText(new LabelTexts(readLabelText), DEFAULT_BOUNDS, "cluster.local");
    const bytes = Buffer.from(text);
    for (let at = 0; at < bytes.length; at += size) reader.write(bytes.subarray(at, at + size));
    reader.end();
    expect(reader.page.proxyValues).toEqual(expected);
    expect(reader.page.malformed).toBe(0);
  });

  test("is read of protobuf", () => {
    const reader = new StatsProtobuf(new LabelMessages(), [], 1 << 20, DEFAULT_BOUNDS, "cluster.local");
    reader.write(protobuf);
    expect(reader.end()).toBe(true);
    expect(reader.page.proxyValues).toEqual(expected);
    expect(reader.page.malformed).toBe(0);
  });

  test("is passed over where nobody asks for it", () => {
    expect(readStats(text).proxyValues).toBeNull();
    expect(readProtobufStats(protobuf)?.proxyValues).toBeNull();
  });

  test("of a proxy that streams, too, is not shown besides, whichever came first, until the stream is silent", () => {
    let nowMs = 0;
    const stats = new ProxyStats(10, () => nowMs);
    const streamed = proxyLabels({ service: "web.default", instance: "web-1.default" });
    const scraped = proxyLabels({ service: "-.default", instance: "web-1.default" });
    const tell = (labels: string, way: "stream" | "scrape", value: number) => {
      if (stats.hears("sidecar~1", labels, way)) stats.take(labels, 0, "c", value);
    };
    const shown = () => [...stats.render("text")].join("").match(/service=.*/g);
    tell(scraped, "scrape", 1);
    tell(streamed, "stream", 2);
    tell(scraped, "scrape", 3);
    expect(shown()).toEqual(['service="web.default",instance="web-1.default",envoy_cluster_name="c"} 2']);
    expect(stats.size).toBe(1);
    nowMs = 301_000;
    tell(scraped, "scrape", 4);
    expect(shown()).toEqual(['service="-.default",instance="web-1.default",envoy_cluster_name="c"} 4']);
  });
});

test("each proxy's last word is shown, hostile names as text", () => {
  const stats = new ProxyStats(10);
  stats.take(WEB, indexOf("envoy_cluster_upstream_cx_active"), 'x"\n\\}', 1);
  stats.take(WEB, indexOf("envoy_cluster_upstream_cx_active"), 'x"\n\\}', 2);
  stats.take(proxyLabels({ service: "b", instance: 'b"1' }), indexOf("envoy_server_concurrency"), "", 4);
  const text = [...stats.render("text")].join("");
  expect(parseExposition(text)).toEqual([
    {
      name: "envoy_cluster_upstream_cx_active",
      labels: { service: NAME.service, instance: NAME.instance, envoy_cluster_name: 'x"\n\\}' },
      value: 2,
    },
    { name: "envoy_server_concurrency", labels: { service: "b", instance: 'b"1' }, value: 4 },
  ]);
  expect(text.match(/^# TYPE .*/gm)).toEqual([
    "# TYPE envoy_cluster_upstream_cx_active gauge",
    "# TYPE envoy_server_concurrency gauge",
  ]);
});

test("OpenMetrics has counters without _total as unknown", () => {
  const stats = new ProxyStats(10);
  for (const name of ["envoy_cluster_upstream_rq_total", "envoy_cluster_lb_healthy_panic"]) {
    stats.take(WEB, indexOf(name), "c", 1);
  }
  expect([...stats.render("openmetrics")].join("").match(/^# TYPE .*/gm)).toEqual([
    "# TYPE envoy_cluster_upstream_rq counter",
    "# TYPE envoy_cluster_lb_healthy_panic unknown",
  ]);
});

test("beyond the limit what is new is left out and counted, until something is stale", () => {
  let nowMs = 0;
  const stats = new ProxyStats(2, () => nowMs);
  for (const cluster of ["a", "b", "c"]) stats.take(WEB, 0, cluster, 1);
  expect([stats.size, stats.refused]).toEqual([2, 1]);
  nowMs = 200_000;
  stats.take(WEB, 0, "b", 2);
  nowMs = 301_000;
  stats.take(proxyLabels({ service: "q", instance: "q" }), 0, "c", 3);
  expect([...stats.render("text")].join("").match(/envoy_cluster_name="."} \d/g)).toEqual([
    'envoy_cluster_name="b"} 2',
    'envoy_cluster_name="c"} 3',
  ]);
  nowMs = 700_000;
  expect([...stats.render("text")]).toEqual([]);
  expect(stats.size).toBe(0);
});

test("docs/metrics.md has a row for every stat, and no other", () => {
  const docs = readFileSync(resolve(import.meta.dirname, "../../docs/metrics.md"), "utf8");
  const [, section = ""] = /^## Envoy's own stats\n(.*)/ms.exec(docs) ?? [];
  const rows = [...section.matchAll(/^\| `(envoy_\w+)` \|/gm)].map((row) => row[1]);
  expect(rows).toEqual(PROXY_STATS.map(({ name }) => name));
});
