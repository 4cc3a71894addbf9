import { describe, expect, it } from "vitest";
import type { StatsReport } from "../../collector/record/record.ts";
import { LabelTexts, readLabelText } from "../../collector/record/stats-labels.ts";
import { HISTOGRAM_BOUNDS, HttpMetric, isTcpLabel, LABELS } from "../../collector/vocabulary.ts";
import { readStats } from "../fixtures/stats.ts";
import { key, text, values } from "./labels.ts";

interface Read extends StatsReport {
  readonly malformedLines: number;
  readonly foreignLabelSets: number;
  readonly untagged: readonly string[];
}

function read(body: string, chunkBytes = 1 << 20): Read {
  const page = readStats(body, chunkBytes);
  const { malformed: malformedLines, foreignLabelSets, untagged } = page;
  return { ...page.report("p"), malformedLines, foreignLabelSets, untagged: [...untagged] };
}

function histogram(name: string, labels: string, cumulative: Readonly<Record<string, number>>, sum: number): string {
  const lines = Object.entries(cumulative).map(([le, count]) => `${name}_bucket{${labels},le="${le}"} ${count}`);
  return [...lines, `${name}_sum{${labels}} ${sum}`, `${name}_count{${labels}} ${cumulative["+Inf"]}`].join("\n");
}

const WEB = { reporter: "source", source_workload: "web" };
const START = "meshtally_filter_start_time_milliseconds{} 1785000000123\n";

describe("StatsText", () => {
  it("reads start time, counter and histogram of one label set", () => {
    const full = Object.fromEntries([...HISTOGRAM_BOUNDS.map((bound, index) => [bound, index]), ["+Inf", 30]]);
    const report = read(
      `# TYPE istio_request_bytes histogram\n${histogram("istio_request_bytes", text(WEB), full, 70.5)}\n` +
        `# TYPE istio_requests_total counter\nistio_requests_total{${text(WEB)}} 9\n` +
        `# TYPE meshtally_filter_start_time_milliseconds gauge\n${START}`,
    );
    expect(report).toMatchObject({ proxy: "p", lifeMs: 1785000000123, malformedLines: 0, foreignLabelSets: 0 });
    expect(report.samples).toHaveLength(1);
    const [sample] = report.samples;
    expect(sample).toMatchObject({ labelKey: key(WEB), requests: 9 });
    expect(sample?.histograms[HttpMetric.RequestBytes]).toEqual({
      cumulative: Float64Array.from(HISTOGRAM_BOUNDS, (_, index) => index),
      count: 30,
      sum: 70.5,
    });
    expect(sample?.histograms[HttpMetric.Duration]).toBeNull();
  });

  it("gives the same report however the body is cut into chunks", () => {
    const body =
      START +
      histogram("istio_response_bytes", text({ source_workload: "bücher" }), { 1: 2, 5: 3, "+Inf": 4 }, 9) +
      `\nistio_requests_total{${text({ source_workload: "bücher" })}} 4`;
    const whole = read(body);
    for (const chunkBytes of [1, 7, 64, 1000]) expect(read(body, chunkBytes)).toEqual(whole);
    expect(whole.samples[0]?.labelKey).toBe(key({ source_workload: "bücher" }));
  });

  it.each([
    [
      "both",
      "envoy_access_logs_grpc_access_log_logs_written{} 12\nenvoy_access_logs_grpc_access_log_logs_dropped{} 3\n",
      12,
      3,
      0,
    ],
    ["one of them", 'envoy_access_logs_grpc_access_log_logs_written{a="b"} 12\n', 12, null, 0],
    ["another logger's", "envoy_access_logs_open_telemetry_access_log_logs_written{} 12\n", null, null, 0],
    ["another count of it", "envoy_access_logs_grpc_access_log_logs_written_more{} 12\n", null, null, 0],
    [
      "no numbers",
      "envoy_access_logs_grpc_access_log_logs_dropped{} x\nenvoy_access_logs_grpc_access_log_logs_\n",
      null,
      null,
      1,
    ],
  ])("reads what the proxy's access loggers counted: %s", (_name, body, logsWritten, logsDropped, malformedLines) => {
    const { logsWritten: written, logsDropped: dropped, malformed } = readStats(body);
    expect([written, dropped, malformed]).toEqual([logsWritten, logsDropped, malformedLines]);
  });

  it("says lifeMs 0 and requests -1 when the scrape has neither", () => {
    const report = read(histogram("istio_request_bytes", text(), { "+Inf": 1 }, 1));
    expect(report.lifeMs).toBe(0);
    expect(report.samples[0]?.requests).toBe(-1);
  });

  it.each([
    ["labels in another order, with one that is not ours", (labels: string[]) => [...labels.reverse(), 'pod="x"']],
    ["a label of ours whose name ends as another's does", (labels: string[]) => ['xreporter="y"', ...labels]],
  ])("knows %s", (_claim, shuffle) => {
    const labels = shuffle(text(WEB).split(",")).join(",");
    expect(read(`istio_requests_total{${labels}} 3\n`).samples[0]).toMatchObject({ labelKey: key(WEB), requests: 3 });
  });

  it.each(['say "hi"', "back\\slash", "two\nlines", 'a}b{c,le="d"', "ü", ""])("unescapes %j", (value) => {
    const labels = { source_workload: value };
    const body = `istio_requests_total{${text(labels)}} 1\n${histogram("istio_request_bytes", text(labels), { 5: 1, "+Inf": 1 }, 5)}\n`;
    const report = read(body);
    expect(report.samples.map((sample) => sample.labelKey)).toEqual([key(labels)]);
    expect(report.malformedLines).toBe(0);
  });

  it("finds `le` wherever it stands", () => {
    const body = [
      `istio_request_bytes_bucket{le="5",${text()}} 1`,
      `istio_request_bytes_bucket{${text().replace(",", ',le="10",')}} 2`,
    ].join("\n");
    const [sample] = read(body).samples;
    expect([...(sample?.histograms[HttpMetric.RequestBytes]?.cumulative ?? [])].slice(0, 5)).toEqual([0, 0, 1, 2, 2]);
  });

  it("ignores bounds that we do not have and carries the bucket below over to those that the scrape lacks", () => {
    const body = histogram("istio_request_bytes", text(), { 3: 1, 5: 2, 7: 5, 10: 6, "+Inf": 8 }, 1);
    const cumulative = read(body).samples[0]?.histograms[HttpMetric.RequestBytes]?.cumulative;
    expect([...(cumulative ?? [])]).toEqual([0, 0, 2, ...new Array(16).fill(6)]);
  });

  it("adds up label sets that differ only in labels that are not ours", () => {
    const body = ["a", "b"].map((pod) =>
      [
        `istio_requests_total{${text()},pod="${pod}"} 2`,
        histogram("istio_request_bytes", `${text()},pod="${pod}"`, { 5: 1, "+Inf": 2 }, 7),
      ].join("\n"),
    );
    const { samples } = read(body.join("\n"));
    expect(samples).toHaveLength(1);
    expect(samples[0]?.requests).toBe(4);
    expect(samples[0]?.histograms[HttpMetric.RequestBytes]).toMatchObject({ count: 4, sum: 14 });
  });

  it("reads a label of ours that is missing as the empty value: the configuration removed it", () => {
    const removed = text({ ...WEB, request_protocol: "" }).replace(/,request_protocol="[^"]*"/, "");
    const body = `istio_requests_total{${removed}} 1\n${histogram("istio_request_bytes", text(WEB), { 5: 2, "+Inf": 2 }, 9)}\n`;
    const { samples, foreignLabelSets } = read(body);
    expect(foreignLabelSets).toBe(0);
    expect(samples.map(({ labelKey }) => labelKey).sort()).toEqual(
      [key({ ...WEB, request_protocol: "" }), key(WEB)].sort(),
    );
    expect(samples.find(({ labelKey }) => labelKey === key(WEB))?.requests).toBe(-1);
    const alone = read('istio_requests_total{pod="x",reporter="source"} 3\n').samples;
    const nothing = Object.fromEntries(LABELS.map((label) => [label, ""]));
    expect(alone).toMatchObject([{ labelKey: key({ ...nothing, reporter: "source" }), requests: 3 }]);
  });

  it("adds up a label that is missing and the same label without a value", () => {
    const empty = text({ ...WEB, source_app: "" });
    const body = `istio_requests_total{${empty}} 1\nistio_requests_total{${empty.replace(/,source_app=""/, "")}} 2\n`;
    expect(read(body).samples).toMatchObject([{ labelKey: key({ ...WEB, source_app: "" }), requests: 3 }]);
  });

  it("skips and counts label sets of another writer, which have none of our labels", () => {
    const report = read(
      `istio_requests_total{pod="x"} 1\nistio_requests_total{} 4\nistio_requests_total{${text()}} 2\n`,
    );
    expect(report.foreignLabelSets).toBe(2);
    expect(report.samples).toHaveLength(1);
    const tooLong = text({ source_workload: "x".repeat(256) });
    expect(read(`istio_requests_total{${tooLong}} 1\n`).foreignLabelSets).toBe(1);
  });

  describe("of TCP metrics", () => {
    const LABELS_OF_WEB = values(WEB).map((value, label) => `${LABELS[label]}="${value}"`);
    const TCP_LABELS = LABELS_OF_WEB.filter((_, label) => isTcpLabel(label)).join(",");
    const TCP_KEY = key({ ...WEB, response_code: "", grpc_response_status: "" });

    it("reads the four counters of one label set, without the two labels that they do not carry", () => {
      const report = read(
        `istio_tcp_connections_opened_total{${TCP_LABELS}} 3\nistio_tcp_connections_closed_total{${TCP_LABELS}} 2\n` +
          `istio_tcp_sent_bytes_total{${TCP_LABELS}} 1000\nistio_tcp_received_bytes_total{${TCP_LABELS}} 0\n${START}`,
      );
      expect(report).toMatchObject({ lifeMs: 1785000000123, samples: [], malformedLines: 0, foreignLabelSets: 0 });
      expect(report.tcpSamples).toEqual([{ labelKey: TCP_KEY, counts: [3, 2, 1000, 0] }]);
    });

    it("says -1 of a counter that the scrape does not have", () => {
      const { tcpSamples } = read(`istio_tcp_connections_opened_total{${TCP_LABELS}} 3\n`);
      expect(tcpSamples).toEqual([{ labelKey: TCP_KEY, counts: [3, -1, -1, -1] }]);
    });

    it("adds up label sets that differ in labels which TCP metrics do not carry alone", () => {
      const line = (more: string, count: number) =>
        `istio_tcp_sent_bytes_total{${TCP_LABELS},${more}} ${count}\n` +
        `istio_tcp_connections_opened_total{${TCP_LABELS},${more}} 1\n`;
      const { tcpSamples } = read(
        line('pod="a"', 5) + line('response_code="200"', 6) + line('grpc_response_status="0"', 7),
      );
      expect(tcpSamples).toEqual([{ labelKey: TCP_KEY, counts: [3, -1, 18, -1] }]);
    });

    it("keeps them apart from requests with the same label text", () => {
      const report = read(`istio_requests_total{${TCP_LABELS}} 4\nistio_tcp_sent_bytes_total{${TCP_LABELS}} 5\n`);
      expect(report.samples).toMatchObject([{ labelKey: TCP_KEY, requests: 4 }]);
      expect(report.tcpSamples).toEqual([{ labelKey: TCP_KEY, counts: [-1, -1, 5, -1] }]);
    });

    it.each<[string, string, object]>([
      ["no labels", "istio_tcp_sent_bytes_total 5", { malformedLines: 1 }],
      ["no number", `istio_tcp_sent_bytes_total{${TCP_LABELS}} x`, { malformedLines: 1 }],
      ["a negative number", `istio_tcp_sent_bytes_total{${TCP_LABELS}} -1`, { malformedLines: 1 }],
      ["none of our labels", 'istio_tcp_sent_bytes_total{pod="a"} 5', { foreignLabelSets: 1 }],
      ["another name", `istio_tcp_other_total{${TCP_LABELS}} 5`, {}],
    ])("passes over a line with %s", (_claim, line, counted) => {
      expect(read(`${line}\n`)).toMatchObject({ tcpSamples: [], malformedLines: 0, foreignLabelSets: 0, ...counted });
    });
  });

  // Names as Envoy 1.40.0 made them, of `source_app=.=my.app-;.;destination_service=.=127.0.0.1:80;.;grpc_response_status=.=;.;...`
  it.each<[string, readonly string[]]>([
    [
      "source_app___my_app____destination_service___127_0_0_1_80___grpc_response_status______response_flags_______istio_requests_total",
      ["source_app", "destination_service", "grpc_response_status", "response_flags"],
    ],
    ["request_host___example_com___istio_requests_total", ["request_host"]],
    ["source_app___web___istio_tcp_sent_bytes_total", ["source_app"]],
    ["grpc_response_status______request_host______istio_response_bytes_count", ["grpc_response_status"]],
    ["reporter___source___istio_request_bytes_sum", []],
    ["reporter___source___istio_request_messages_total", []],
    ["other_istio_requests_total", []],
    ["___x___istio_requests_total", []],
  ])("sees labels that were left in the name of a metric: %s", (name, untagged) => {
    const report = read(`# TYPE ${name} counter\n${name}{${text(WEB)}} 5\nistio_requests_total{${text(WEB)}} 7\n`);
    expect(report.untagged).toEqual(untagged);
    expect(report.samples).toMatchObject([{ labelKey: key(WEB), requests: 7 }]);
    expect(report).toMatchObject({ malformedLines: 0, foreignLabelSets: 0 });
  });

  it("tells only so many labels of one scrape that were left in names", () => {
    const names = Array.from({ length: 1000 }, (_, index) => `label_${index}___x___istio_requests_total{} 1`);
    const { untagged } = read(names.join("\n"));
    expect(untagged).toHaveLength(32);
    const long = read(`${"x".repeat(1000)}___x___istio_requests_total{} 1\n`);
    expect(long.untagged).toEqual(["x".repeat(255)]);
  });

  it.each([
    ["no labels", "istio_requests_total 5"],
    ["no value", `istio_requests_total{${text()}}`],
    ["a negative value", `istio_requests_total{${text()}} -1`],
    ["a value that is no number", `istio_requests_total{${text()}} many`],
    ["a value beyond exact counts", `istio_requests_total{${text()}} 1e300`],
    ["a part of a request", `istio_requests_total{${text()}} 1.5`],
    ["an infinite value", `istio_requests_total{${text()}} +Inf`],
    ["a bucket without le", `istio_request_bytes_bucket{${text()}} 5`],
    ["a start time that is no number", "meshtally_filter_start_time_milliseconds{} nan"],
  ])("skips and counts a line with %s, and reads on", (_claim, line) => {
    const report = read(`${line}\nistio_requests_total{${text(WEB)}} 7\n`);
    expect(report.malformedLines).toBe(1);
    expect(report.samples.map((sample) => sample.requests)).toEqual([7]);
  });

  it("skips other families, comments, and lines without end", () => {
    const other = `istio_request_messages_total{${text()}} 5\nistio_build{component="proxy"} 1\nenvoy_x{} 1\n# HELP x y\n\n`;
    expect(read(other)).toMatchObject({ samples: [], malformedLines: 0 });
    expect(read(`istio_requests_total{${"x".repeat(40_000)}\nistio_requests_total{${text()}} 1\n`, 1000)).toMatchObject(
      {
        samples: [{ requests: 1 }],
      },
    );
  });

  it("never throws and never invents, whatever bytes come", () => {
    let state = 20260101;
    const random = (below: number): number => {
      state = (Math.imul(state, 1103515245) + 12345) >>> 0;
      return Math.floor((state / 2 ** 32) * below);
    };
    const good = `${START}istio_requests_total{${text(WEB)}} 9\n${histogram("istio_request_bytes", text(WEB), { 5: 3, "+Inf": 9 }, 9)}\n`;
    for (let round = 0; round < 2000; round++) {
      const bytes = Buffer.from(good, "utf8").subarray(random(200));
      for (let flips = random(6); flips > 0; flips--) bytes[random(bytes.length)] = random(256);
      for (const sample of read(bytes.toString("latin1"), 1 + random(3000)).samples) {
        expect(Number.isSafeInteger(sample.requests)).toBe(true);
        const cumulative = sample.histograms[HttpMetric.RequestBytes]?.cumulative ?? new Float64Array();
        for (let index = 1; index < cumulative.length; index++) {
          expect(cumulative[index]).toBeGreaterThanOrEqual(cumulative[index - 1] as number);
        }
      }
    }
  });
});

describe("LabelTexts", () => {
  it("forgets the oldest texts beyond its bound and still answers", () => {
    const texts = new LabelTexts(readLabelText, 10_000);
    const find = (index: number) => texts.find(text({ source_workload: `w${index}` }));
    for (let round = 0; round < 3; round++) {
      for (let index = 0; index < 20; index++) expect(find(index).key).toBe(key({ source_workload: `w${index}` }));
    }
    expect(find(19)).toBe(find(19));
    const first = find(0);
    for (let index = 0; index < 20; index++) find(index);
    expect(find(0)).not.toBe(first);
    expect(texts.find('pod="x"')).toEqual({ key: null, tcpKey: null });
  });
});
