// A collector that ends while proxies stream their stats to it: the next one goes on from what each process had told, for histograms come as
// what was added since the flush before.

import { describe, expect, it } from "vitest";
import { silentLog } from "../../../collector/log.ts";
import type { StreamReader } from "../../../collector/receiver/client-stream.ts";
import { MetricsService } from "../../../collector/receiver/metrics-service.ts";
import { SelfMetrics } from "../../../collector/self.ts";
import { DEFAULT_SHAPES } from "../../../collector/series/shape.ts";
import { SeriesStore } from "../../../collector/series/store.ts";
import { readerOf } from "../../../collector/state/frames.ts";
import { SavedStore } from "../../../collector/state/saved-store.ts";
import { StreamedBook } from "../../../collector/state/streamed-book.ts";
import { HttpMetric } from "../../../collector/vocabulary.ts";
import { COUNTS_WIDTH, HISTOGRAM_COUNT, HISTOGRAM_SUM, histogramField } from "../../fixtures/counts.ts";
import { type SinkOptions, SinkProcess } from "../../fixtures/metrics-sink.ts";

const WEB = "sidecar~10.0.0.1~web-1.default~default.svc.cluster.local";
const START = Date.now() - 5000;
const A = { source_workload: "a", destination_workload: "b" };
const LIMITS = { proxies: 100, labelSets: 100, cells: 1000, connections: 10, retireAfterMs: 600_000 };

interface Saved {
  readonly stores: readonly Buffer[];
  readonly processes: readonly Buffer[];
}

/** What of a collector counts what the metrics service brings. */
class Counting {
  readonly self = new SelfMetrics("test");
  readonly store = new SeriesStore(LIMITS);
  readonly service: MetricsService;
  private readonly book: StreamedBook;

  constructor(before: Saved | null = null, maxLabelSets = 1000) {
    this.service = new MetricsService({
      messages: { bytes: 1 << 20, key: "grpc.max_metrics_message" },
      ...{ maxStreams: 10, maxProxies: 10, maxLabelSets, shapes: DEFAULT_SHAPES, forgetAfterMs: 600_000 },
      sink: (report) => this.store.report(report),
      self: this.self,
      log: silentLog,
    });
    this.book = new StreamedBook(this.service.processes, DEFAULT_SHAPES);
    if (before === null) return;
    new SavedStore(this.store).restore(before.stores.map(readerOf), { shard: 0, shards: 1, owns: () => true });
    for (const piece of before.processes) this.book.restore(readerOf(piece));
  }

  save(between: () => void = () => {}): Saved {
    const saved = new SavedStore(this.store);
    saved.begin(0);
    const stores: Buffer[] = [];
    for (let piece = saved.nextPiece(); piece !== null; piece = saved.nextPiece()) stores.push(piece);
    between();
    return { stores, processes: [...this.book.pieces(1)] };
  }

  open(header = ""): StreamReader {
    const stream = this.service.open({ text: (name) => (name === "x-meshtally-counters" ? header : "") });
    if (stream === null) throw new Error("refused");
    return stream;
  }

  /** Requests; durations, and their sum. */
  get counted(): readonly (number | undefined)[] {
    const row = new Float64Array(COUNTS_WIDTH);
    const [series] = this.store.http.series;
    if (series) this.store.http.readTotal(series, row);
    const at = histogramField(HttpMetric.Duration);
    return [row[0], row[at + HISTOGRAM_COUNT], Math.round(row[at + HISTOGRAM_SUM] ?? 0)];
  }

  async reports(): Promise<string> {
    const page = await this.self.registry.metrics();
    return (page.match(/^meshtally_metrics_service_reports_total.* [1-9].*$/gm) ?? []).join("\n");
  }
}

function send(stream: StreamReader, messages: readonly Buffer[]): void {
  for (const message of messages) stream.message(message);
}

function requests(process: SinkProcess, count: number): void {
  for (let i = 0; i < count; i++) process.request(A, 7);
}

describe.each<[string, SinkOptions]>([
  ["counters as they stand", {}],
  ["deltas", { deltas: true }],
  ["in batches, tags as labels", { batchSize: 3, tags: true }],
  ["a label that a configuration added", { added: { pod: "p" } }],
])("%s", (_name, options) => {
  const header = options.deltas ? "delta" : "";

  it("go on growing from the first flush after a restart", () => {
    const process = new SinkProcess(WEB, START);
    const first = new Counting();
    requests(process, 10);
    process.connection(A, [2, 1, 300, 40]);
    send(first.open(header), process.flush(1000, options, true));
    const second = new Counting(first.save());
    expect(second.counted).toEqual([10, 10, 70]);
    requests(process, 2);
    process.connection(A, [1, 0, 5, 0]);
    const stream = second.open(header);
    send(stream, process.flush(2000, options, true));
    expect(second.counted).toEqual([12, 12, 85]);
    const third = new Counting(second.save());
    requests(process, 1);
    send(third.open(header), process.flush(3000, options, true));
    expect(third.counted).toEqual([13, 13, 92]);
    const tcp = new Float64Array(4);
    third.store.tcp.readTotal(third.store.tcp.series[0] as never, tcp);
    expect([...tcp]).toEqual([3, 1, 305, 40]);
  });
});

it("lose of histograms what was flushed since the last saving, once, and of counters nothing", () => {
  const process = new SinkProcess(WEB, START);
  const first = new Counting();
  const stream = first.open();
  requests(process, 10);
  send(stream, process.flush(1000, {}, true));
  const saved = first.save();
  requests(process, 4);
  send(stream, process.flush(2000)); // and then it is killed
  const second = new Counting(saved);
  requests(process, 3);
  send(second.open(), process.flush(3000, {}, true));
  expect(second.counted).toEqual([17, 13, 92]);
});

it("count once what is flushed while the state is saved", () => {
  const process = new SinkProcess(WEB, START);
  const first = new Counting();
  const stream = first.open();
  requests(process, 10);
  send(stream, process.flush(1000, {}, true));
  const saved = first.save(() => {
    requests(process, 4);
    send(stream, process.flush(2000));
  });
  const second = new Counting(saved);
  requests(process, 3);
  send(second.open(), process.flush(3000, {}, true));
  expect(second.counted).toEqual([17, 17, 120]);
});

it("keep what a counter had come to before it fell", () => {
  const process = new SinkProcess(WEB, START);
  const first = new Counting();
  const stream = first.open();
  requests(process, 10);
  send(stream, process.flush(1000, {}, true));
  process.replaceVm();
  requests(process, 2);
  send(stream, process.flush(2000));
  const second = new Counting(first.save());
  requests(process, 3);
  send(second.open(), process.flush(3000, {}, true));
  expect(second.counted).toEqual([15, 15, 106]);
});

it("count nothing twice beside a scrape that knew more of the same label set", () => {
  const process = new SinkProcess(WEB, START);
  const first = new Counting();
  requests(process, 10);
  process.flush(500); // while there was no stream
  requests(process, 4);
  send(first.open(), process.flush(1000, {}, true));
  first.store.report(process.scrape());
  expect(first.counted).toEqual([14, 14, 99]);
  const second = new Counting(first.save());
  requests(process, 3);
  send(second.open(), process.flush(2000, {}, true));
  expect(second.counted).toEqual([17, 14, 99]); // 7 by the stream, and 14 by the scrape
  second.store.report(process.scrape());
  expect(second.counted).toEqual([17, 17, 120]);
});

it("take no flush again that another sink brings after the restart", async () => {
  const process = new SinkProcess(WEB, START);
  const first = new Counting();
  requests(process, 10);
  const flush = process.flush(1000, { deltas: true }, true);
  send(first.open("delta"), flush);
  const second = new Counting(first.save());
  send(second.open("delta"), flush);
  expect(second.counted).toEqual([10, 10, 70]);
  expect(await second.reports()).toBe('meshtally_metrics_service_reports_total{result="duplicate"} 1');
});

it("of which there is no room any more never count twice", () => {
  const process = new SinkProcess(WEB, START);
  const first = new Counting();
  requests(process, 10);
  send(first.open(), process.flush(1000, {}, true));
  const second = new Counting(first.save(), 0);
  requests(process, 3);
  send(second.open(), process.flush(2000, {}, true));
  expect(second.counted).toEqual([10, 10, 70]);
});
