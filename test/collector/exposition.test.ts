import { describe, expect, it } from "vitest";
import { SelfMetrics } from "../../collector/self.ts";
import { SeriesStore } from "../../collector/series/store.ts";
import { HISTOGRAM_BOUNDS, LABELS } from "../../collector/vocabulary.ts";
import { TrafficFamilies } from "../../collector/web/exposition/families.ts";
import { type Format, negotiateFormat, type TextFormat } from "../../collector/web/exposition/format.ts";
import { toOpenMetrics } from "../../collector/web/exposition/open-metrics.ts";
import { PAGE_BYTES } from "../../collector/web/exposition/pages.ts";
import { TextTraffic } from "../../collector/web/exposition/text.ts";
import { readStats } from "../fixtures/stats.ts";
import { key, text } from "./labels.ts";

const PROTOBUF = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited";
const NATIVE_PROMETHEUS_ACCEPT = `${PROTOBUF};q=0.6,application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.2,*/*;q=0.1`;
const WEB = { reporter: "source", source_workload: "web", grpc_response_status: "" };
const PROMETHEUS_ACCEPT =
  "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,application/openmetrics-text;version=0.0.1;q=0.5," +
  "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";

function setUp() {
  const store = new SeriesStore({
    proxies: 10,
    labelSets: 1000,
    cells: 500_000,
    connections: 100,
    retireAfterMs: 1000,
  });
  const observe = (labels = {}, durationMs = 7) =>
    store.observe({
      proxy: "p",
      lifeMs: 1,
      labelKey: key(labels),
      requests: 1,
      durationMs,
      requestBytes: 0,
      responseBytes: 300,
    });
  // A piece's memory is used again.
  const pieces = (format: TextFormat) =>
    Array.from(new TextTraffic(new TrafficFamilies(store), format).render(), String);
  const render = (format: TextFormat = "text") => pieces(format).join("");
  return { observe, pieces, render, store };
}

describe("negotiateFormat", () => {
  it.each<[string | undefined, Format]>([
    [undefined, "text"],
    ["", "text"],
    ["*/*", "text"],
    ["text/html,application/xhtml+xml,*/*;q=0.8", "text"],
    ["text/plain;version=0.0.4", "text"],
    [PROMETHEUS_ACCEPT, "openmetrics"],
    ["application/openmetrics-text", "openmetrics"],
    ['Application/OpenMetrics-Text; Version="1.0.0"', "openmetrics"],
    ["application/openmetrics-text; version=0.0.1", "text"],
    ["application/openmetrics-text;q=0.3,text/plain;q=0.5", "text"],
    ["application/openmetrics-text;q=0", "text"],
    ["application/openmetrics-text;q=x,text/plain;q=0.1", "text"],
    [NATIVE_PROMETHEUS_ACCEPT, "protobuf"],
    [PROTOBUF, "protobuf"],
    [`text/plain, ${PROTOBUF}, application/openmetrics-text`, "protobuf"],
    [`${PROTOBUF};q=0.3, application/openmetrics-text;q=0.5`, "openmetrics"],
    [`${PROTOBUF};q=0`, "text"],
    [PROTOBUF.replace("delimited", "text"), "text"],
    [PROTOBUF.replace("client.MetricFamily", "client.Metric"), "text"],
    [`Application/Vnd.Google.Protobuf; Proto="io.prometheus.client.MetricFamily"; Encoding="delimited"`, "protobuf"],
    ["application/vnd.google.protobuf", "text"],
  ])("reads %j as %s", (accept, format) => {
    expect(negotiateFormat(accept)).toBe(format);
  });
});

describe("TextTraffic", () => {
  it("renders counters and histograms as Prometheus reads them", () => {
    const { observe, render } = setUp();
    observe(WEB);
    observe(WEB, 100_000);
    const lines = render().split("\n");
    expect(lines.slice(0, 4)).toEqual([
      "# HELP istio_requests_total Requests, HTTP and gRPC, counted when they end; one that got no answer counts with response_code 0.",
      "# TYPE istio_requests_total counter",
      `istio_requests_total{${text(WEB)}} 2`,
      expect.stringMatching(/^# HELP istio_request_duration_milliseconds /),
    ]);
    expect(lines).toContain(`istio_request_duration_milliseconds_bucket{${text(WEB)},le="0.5"} 0`);
    expect(lines).toContain(`istio_request_duration_milliseconds_bucket{${text(WEB)},le="10"} 1`);
    expect(lines).toContain(`istio_request_duration_milliseconds_bucket{${text(WEB)},le="+Inf"} 2`);
    expect(lines).toContain(`istio_request_duration_milliseconds_count{${text(WEB)}} 2`);
    expect(lines).toContain(`istio_request_bytes_bucket{${text(WEB)},le="0.5"} 2`);
    expect(lines).toContain(`istio_request_bytes_sum{${text(WEB)}} 0`);
    expect(lines.at(-1)).toBe("");
  });

  it("shows a label without a value as such, so that no two label sets are one series", () => {
    const { observe, render } = setUp();
    const removed = [{ source_app: "" }, { source_version: "" }, Object.fromEntries(LABELS.map((name) => [name, ""]))];
    for (const labels of removed) observe(labels);
    const lines = render().split("\n");
    for (const labels of removed) expect(lines).toContain(`istio_requests_total{${text(labels)}} 1`);
    expect(text(removed[2])).toMatch(/^reporter="",source_workload="",/);
    expect(new Set(lines).size).toBe(lines.length);
  });

  it("shows nothing of a metric that was not recorded", () => {
    const { render, store } = setUp();
    const nothing = { durationMs: -1, requestBytes: -1, responseBytes: -1 };
    store.observe({ proxy: "p", lifeMs: 1, labelKey: key(WEB), requests: 0, ...nothing, requestBytes: 3 });
    const samples = render()
      .split("\n")
      .filter((line) => line !== "" && !line.startsWith("#"));
    expect(samples.length).toBeGreaterThan(10);
    for (const line of samples) expect(line).toMatch(/^(istio|mesh)_request_bytes_/);
  });

  describe("of TCP", () => {
    const TCP_WEB = { ...WEB, response_code: "" };
    const TCP_TEXT = text(TCP_WEB).replace(/(response_code|grpc_response_status)="",/g, "");
    const connect = (store: SeriesStore, counts: readonly number[]) =>
      store.observeConnection({
        proxy: "p",
        lifeMs: 1,
        connectionId: 0,
        streamId: "",
        isOver: true,
        parts: [{ labelKey: key(TCP_WEB), counts }],
      });

    it("shows the four counters with the labels that they carry, and no family of requests", () => {
      const { render, store } = setUp();
      connect(store, [1, 1, 70, 2 ** 40]);
      expect(TCP_TEXT.split(",")).toHaveLength(23);
      expect(
        render()
          .split("\n")
          .filter((line) => !/^# HELP|^(# TYPE )?mesh_/.test(line)),
      ).toEqual([
        "# TYPE istio_tcp_connections_opened_total counter",
        `istio_tcp_connections_opened_total{${TCP_TEXT}} 1`,
        "# TYPE istio_tcp_connections_closed_total counter",
        `istio_tcp_connections_closed_total{${TCP_TEXT}} 1`,
        "# TYPE istio_tcp_sent_bytes_total counter",
        `istio_tcp_sent_bytes_total{${TCP_TEXT}} 70`,
        "# TYPE istio_tcp_received_bytes_total counter",
        `istio_tcp_received_bytes_total{${TCP_TEXT}} ${2 ** 40}`,
        "",
      ]);
    });

    it("shows neither header nor series of what was not counted", () => {
      const { render, store } = setUp();
      connect(store, [1, 1, 0, 0]);
      expect(render()).not.toContain("bytes");
      expect(setUp().render()).toBe("");
    });

    it("has units in OpenMetrics, with which the names of the families end", () => {
      const { render, store } = setUp();
      connect(store, [1, 1, 70, 80]);
      const lines = render("openmetrics").split("\n");
      expect(lines).toContain("# TYPE istio_tcp_sent_bytes counter");
      expect(lines).toContain("# UNIT istio_tcp_sent_bytes bytes");
      expect(lines).toContain("# UNIT istio_tcp_received_bytes bytes");
      expect(lines).toContain(`istio_tcp_sent_bytes_total{${TCP_TEXT}} 70`);
      expect(lines).toContain("# TYPE istio_tcp_connections_opened counter");
      expect(lines.filter((line) => line.startsWith("# UNIT istio_"))).toHaveLength(2);
    });

    it("is read back by our own parser as it was counted", () => {
      const { render, store } = setUp();
      connect(store, [1, 1, 70, 80]);
      expect(readStats(render()).report("p").tcpSamples).toEqual([{ labelKey: key(TCP_WEB), counts: [1, 1, 70, 80] }]);
    });
  });

  it("renders OpenMetrics by its own rules", () => {
    const { observe, render } = setUp();
    observe(WEB);
    const lines = render("openmetrics").split("\n");
    expect(lines).toContain("# TYPE istio_requests counter");
    expect(lines).toContain(`istio_requests_total{${text(WEB)}} 1`);
    expect(lines).toContain("# UNIT istio_response_bytes bytes");
    expect(lines).toContain(`istio_response_bytes_bucket{${text(WEB)},le="500.0"} 1`);
    expect(lines).toContain(`istio_response_bytes_bucket{${text(WEB)},le="0.5"} 0`);
  });

  it("escapes label values, and renders no histogram without observations", () => {
    const { observe, render } = setUp();
    const labels = { source_workload: 'say "hi" \\ ü' };
    observe(labels, -1);
    expect(render()).toContain(`istio_requests_total{${text(labels)}} 1\n`);
    expect(render()).not.toContain("istio_request_duration_milliseconds_bucket");
  });

  it("is read back by our own parser as it was counted", () => {
    const { observe, render, store } = setUp();
    for (let index = 0; index < 50; index++) observe({ source_workload: `w${index}"\\` }, index * 100);
    const page = readStats(render());
    const report = { ...page.report("p"), lifeMs: 1 };
    expect(page.malformed + page.foreignLabelSets).toBe(0);
    const copy = setUp();
    copy.store.report(report);
    expect(copy.store.http.series).toHaveLength(store.http.series.length);
    expect(copy.render()).toBe(render());
  });

  it("comes in pieces that end at line ends and are not long, and never cuts a line", () => {
    const { observe, pieces, render } = setUp();
    for (let index = 0; index < 700; index++) observe({ source_workload: `w${index}` }, index);
    const all = pieces("text");
    expect(all.length).toBeGreaterThan(20);
    for (const piece of all) {
      expect(piece.endsWith("\n")).toBe(true);
      expect(piece.length).toBeLessThanOrEqual(PAGE_BYTES);
    }
    for (const name of ["istio_requests_total", "istio_request_bytes_count", "istio_response_bytes_sum"]) {
      const lines = render().match(new RegExp(`^${name}\\{.*\\} [0-9.]+$`, "gm"));
      expect(new Set(lines).size).toBe(700);
    }
  });

  it("shows a choice of buckets, each as it is among all of them", () => {
    const { observe, render, store } = setUp();
    for (const durationMs of [0, 3, 30, 300, 3000]) observe(WEB, durationMs);
    const chosen = new TrafficFamilies(store, "certain", [[], [5, 500], [], HISTOGRAM_BOUNDS]);
    const lines = Array.from(new TextTraffic(chosen, "text").render(), String).join("").split("\n");
    const of = (name: string) => lines.filter((line) => line.startsWith(`${name}_bucket{`));
    const bucket = (bound: string, count: number) =>
      `istio_request_duration_milliseconds_bucket{${text(WEB)},le="${bound}"} ${count}`;
    expect(of("istio_request_duration_milliseconds")).toEqual([bucket("5", 2), bucket("500", 4), bucket("+Inf", 5)]);
    expect(of("istio_request_bytes")).toHaveLength(1);
    expect(of("istio_response_bytes")).toHaveLength(HISTOGRAM_BOUNDS.length + 1);
    expect(of("mesh_request_duration_milliseconds")).toHaveLength(3);
    for (const line of lines) expect(render().split("\n")).toContain(line);
  });

  it("keeps a piece as it is while the next one is made", () => {
    const { observe, pieces, store } = setUp();
    for (let index = 0; index < 300; index++) observe({ source_workload: `w${index}` });
    const expected = pieces("text");
    let before: Buffer | null = null;
    let place = 0;
    for (const piece of new TextTraffic(new TrafficFamilies(store), "text").render()) {
      if (before !== null) expect(before.toString()).toBe(expected[place++]);
      before = piece;
    }
    expect(place).toBe(expected.length - 1);
  });

  it("has room for the longest label set there can be", () => {
    const { observe, render } = setUp();
    const hostile = Object.fromEntries(LABELS.map((name) => [name, '"'.repeat(255)]));
    observe(hostile);
    observe(WEB);
    const lines = render().split("\n");
    expect(lines).toContain(`istio_requests_total{${text(hostile)}} 1`);
    expect(lines).toContain(`istio_response_bytes_bucket{${text(hostile)},le="+Inf"} 1`);
    expect(lines.filter((line) => /^istio_.*\{/.test(line))).toHaveLength(2 * 67);
  });

  it.each([1, 9, 10, 99, 1e9 - 1, 2 ** 31 - 1, 2 ** 31, 2 ** 32 + 7, 2 ** 53 - 1, 2 ** 53])(
    "writes %d as it is",
    (count) => {
      const { render, store } = setUp();
      const nothing = { durationMs: -1, requestBytes: -1, responseBytes: -1 };
      store.observe({ proxy: "p", lifeMs: 1, labelKey: key(WEB), requests: count, ...nothing });
      expect(render()).toContain(`istio_requests_total{${text(WEB)}} ${count}\n`);
    },
  );
});

describe("toOpenMetrics", () => {
  it("turns the collector's own metrics into OpenMetrics, and leaves them as they are for the next reader", async () => {
    const self = new SelfMetrics("1.2.3");
    self.accessLogDropped.inc({ reason: "node_missing" }, 3);
    const holdings = {
      labelSets: { http: 1, tcp: 6 },
      lives: 2,
      cells: { http: 5, tcp: 7 },
      overflowed: { http: 3, tcp: 0 },
      letGo: { http: 4, tcp: 0 },
      leftOut: { http: { overflow: 3 }, tcp: { overflow: 0 } },
      connections: 8,
      edges: 4,
      proxyStats: { series: 0, refused: 0 },
      indicators: { subjects: { service: 2 }, refused: { service: 0 }, late: 5, ahead: 0 },
    };
    const before = await self.render(holdings);
    const lines = toOpenMetrics(before).split("\n");
    expect(lines).toContain("# TYPE meshtally_access_log_dropped counter");
    expect(lines).toContain('meshtally_access_log_dropped_total{reason="node_missing"} 3');
    expect(lines).toContain("# TYPE meshtally_label_sets gauge");
    expect(lines).toContain('meshtally_label_sets_overflowed_total{metrics="http"} 3');
    expect(lines).toContain('meshtally_unified_left_out_total{metrics="http",reason="overflow"} 3');
    expect(lines).toContain('meshtally_label_sets{metrics="tcp"} 6');
    expect(lines).toContain("meshtally_connections 8");
    expect(lines).toContain('meshtally_indicator_subjects{kind="service"} 2');
    expect(lines).toContain('meshtally_indicator_calls_out_of_time_total{how="late"} 5');
    expect(lines.slice(0, -1)).not.toContain("");
    expect(await self.render(holdings)).toContain("# TYPE meshtally_access_log_dropped_total counter");
  });

  it("knows help, quotes, le and names as they come", () => {
    const from = [
      '# HELP a_total say "hi"',
      "# TYPE a_total counter",
      "a_total 1",
      "",
      "# HELP b b",
      "# TYPE b histogram",
    ];
    const more = ['b_bucket{le="1"} 1', 'b_bucket{le="0.5"} 1', 'b_bucket{le="+Inf"} 1', ""];
    expect(toOpenMetrics([...from, ...more].join("\n"))).toBe(
      '# HELP a say \\"hi\\"\n# TYPE a counter\na_total 1\n# HELP b b\n# TYPE b histogram\n' +
        'b_bucket{le="1.0"} 1\nb_bucket{le="0.5"} 1\nb_bucket{le="+Inf"} 1\n',
    );
  });
});
