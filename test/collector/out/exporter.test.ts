// From points to requests, round by round: what is new, what is gone, what could not be read.

import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, describe, expect, it } from "vitest";
import { silentLog } from "../../../collector/log.ts";
import { DELIVERED } from "../../../collector/out/delivery.ts";
import { Exporter, type ExporterOptions, SLICE_MS } from "../../../collector/out/exporter.ts";
import { labelsOf, type Point, type Step } from "../../../collector/out/point.ts";
import { MemoryQueue } from "../../../collector/out/queue.ts";
import { SeriesPoints } from "../../../collector/out/series-points.ts";
import { TextPoints } from "../../../collector/out/text-points.ts";
import { Told } from "../../../collector/out/told.ts";
import { Turns } from "../../../collector/out/turns.ts";
import { WriteRequestEncoder } from "../../../collector/out/write-request.ts";
import { SelfMetrics } from "../../../collector/self.ts";
import { SeriesStore } from "../../../collector/series/store.ts";
import { TrafficFamilies } from "../../../collector/web/exposition/families.ts";
import { TextTraffic } from "../../../collector/web/exposition/text.ts";
import { parseExposition, type Sample, seriesId } from "../../e2e/exposition.ts";
import { key } from "../labels.ts";
import { pointsOf } from "./steps.ts";
import { decodeWriteRequest } from "./write-request.ts";

const closers: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

const START_MS = 1_767_000_000_000;
const FAMILY = { name: "requests_total", kind: "counter", help: "", unit: "" } as const;
const LABELS = new Map(["a", "b", "c"].map((app) => [app, labelsOf(app, [["app", app]])]));
const counter = (app: string, value: number): Point => ({
  family: FAMILY,
  labels: LABELS.get(app)!,
  value,
  spread: null,
});

/** Ids and values of all samples; "gone" for those that are marked so. */
async function samplesOf(
  steps: Iterable<Step>,
  encode = (encoder: WriteRequestEncoder, point: Point) => encoder.add(point),
) {
  const encoder = new WriteRequestEncoder({ externalLabels: {}, maxSamples: 1000 });
  encoder.begin(START_MS);
  for (const point of pointsOf(steps)) encode(encoder, point);
  const batches = await encoder.take(true);
  return new Map(batches.flatMap(({ body }) => decodeWriteRequest(body)).map(idAndValue));
}

function idAndValue({ labels, samples }: ReturnType<typeof decodeWriteRequest>[number]): [string, number] {
  const { __name__: name = "", ...rest } = Object.fromEntries(labels);
  return [seriesId({ name, labels: rest, value: 0 }), samples[0]!.value];
}

/** What a scrape of the text would give. */
function scraped(text: string): Map<string, number> {
  const told = ({ labels, ...rest }: Sample): Sample => ({
    ...rest,
    labels: Object.fromEntries(Object.entries(labels).filter(([, value]) => value !== "")),
  });
  return new Map(
    parseExposition(text.replaceAll(/Inf$/gm, "Infinity")).map((sample) => [seriesId(told(sample)), sample.value]),
  );
}

describe("points", () => {
  it("of text are what a scrape of it gives: counters, gauges, histograms, summaries, odd values and labels", async () => {
    const text = [
      "# HELP a_total Some.\n# TYPE a_total counter\n",
      'a_total 5\na_total{x="1",y=""} 6.5\na_total{x="q\\"u\\\\o\\nte, le=\\"1\\"",role="le"} 7\n',
      '# HELP b B\n# TYPE b gauge\nb NaN\nb{x="1"} +Inf\nb{x="2"} -Inf\nb{x="3"} 1e-7\n',
      '# HELP h H\n# TYPE h histogram\nh_bucket{le="0.5",tle="x"} 1\nh_bucket{le="+Inf",tle="x"} 3\nh_sum{tle="x"} 2.5\nh_count{tle="x"} 3\n',
      'h_bucket{tle="y",le="0.5"} 0\nh_bucket{tle="y",le="+Inf"} 1\nh_sum{tle="y"} 9\nh_count{tle="y"} 1\n',
      '# HELP s S\n# TYPE s summary\ns{quantile="0.5"} 1\ns_sum 2\n',
      "s_count 3\n", // a piece of its own
      "# HELP empty E\n# TYPE empty gauge\n",
    ];
    const points = [...pointsOf(new TextPoints().points(text, () => true))];
    expect(await samplesOf(points)).toEqual(scraped(text.join("")));
    expect(points.map(({ family }) => family.kind)).toEqual([
      ...Array(3).fill("counter"),
      ...Array(4).fill("gauge"),
      ...Array(2).fill("histogram"),
      "summary",
    ]);
  });

  it("of the collector's own metrics are what it shows", async () => {
    const self = new SelfMetrics("test");
    self.exportTo("a").dropped("bad_request", 3);
    self.logStoreFlush.observe(0.2);
    self.accessLogEntries.inc({ labels: 'o"dd\\' });
    const text = await self.registry.metrics();
    const text2 = await self.registry.metrics();
    const points = new TextPoints();
    expect(await samplesOf(points.points([text], () => true))).toEqual(scraped(text));
    const again = await samplesOf(points.points([text2], () => true));
    expect(again).toEqual(scraped(text2));
    expect(again.size).toBeGreaterThan(100);
  });

  it("of text have the same labels from round to round", () => {
    const text = new TextPoints();
    const first = [...pointsOf(text.points(['# TYPE a gauge\na{x="1"} 1\n'], () => true))];
    const second = [...pointsOf(text.points(['# TYPE a gauge\na{x="1"} 2\n'], () => true))];
    expect(second[0]?.labels).toBe(first[0]?.labels);
  });

  it("of families that are not wanted are left out", async () => {
    const text =
      '# TYPE a gauge\na 1\n# TYPE ab histogram\nab_bucket{le="+Inf"} 1\nab_sum 1\nab_count 1\n# TYPE b gauge\nb 2\n';
    const samples = await samplesOf(new TextPoints().points([text], (name) => name === "b"));
    expect([...samples.keys()]).toEqual(["b{}"]);
  });

  it("of traffic are what a scrape gives", async () => {
    const store = new SeriesStore({
      proxies: 9,
      labelSets: 9,
      cells: 99,
      connections: 9,
      retireAfterMs: 1e6,
      expireAfterMs: 1e9,
    });
    for (const [i, app] of ["a", "b", "ü"].entries()) {
      const labelKey = key({ reporter: "source", source_app: app, response_code: "" });
      const told = { proxy: `p${i}`, lifeMs: 0, labelKey, requests: 1 };
      store.observe({ ...told, durationMs: i * 700, requestBytes: -1, responseBytes: 1e6 } as Parameters<
        typeof store.observe
      >[0]);
    }
    const shown = Array.from(new TextTraffic(new TrafficFamilies(store), "text").render(), String).join("");
    const points = new SeriesPoints(store, "certain");
    const samples = await samplesOf(points.points(() => true));
    expect(samples).toEqual(scraped(shown));
    expect(samples.size).toBeGreaterThan(100);
    expect((await samplesOf(points.points((name) => name === "istio_requests_total"))).size).toBe(3);
  });
});

describe("told", () => {
  it("says since when a series counts: the start, its first round, or the round before it went down or came back", () => {
    const told = new Told(START_MS);
    const round = (atMs: number, points: readonly Point[]) => {
      told.begin();
      const starts = points.map((point) => told.note(point) - START_MS);
      const gone = [...pointsOf(told.gone())].map(({ labels }) => labels.key);
      told.end(START_MS + atMs);
      return { starts, gone };
    };
    expect(round(10, [counter("a", 5)])).toEqual({ starts: [0], gone: [] });
    expect(round(20, [counter("a", 5), counter("b", 1)])).toEqual({ starts: [0, 10], gone: [] });
    expect(round(30, [counter("a", 4), counter("b", 1)])).toEqual({ starts: [20, 10], gone: [] });
    expect(round(40, [counter("a", 4)])).toEqual({ starts: [20], gone: ["b"] });
    expect(round(50, [counter("a", 6), counter("b", 9)])).toEqual({ starts: [20, 40], gone: [] });
  });

  it("says of what was hidden and goes on that it counts since when it did", () => {
    const told = new Told(START_MS);
    const point: Point = { ...counter("a", 5), family: { ...FAMILY, goesOn: () => true } };
    const rounds = [[point], [], [], [point]].map((points) => {
      told.begin();
      const starts = points.map((each) => told.note(each));
      const gone = [...pointsOf(told.gone())].length;
      told.end(START_MS + 10);
      return [...starts, gone];
    });
    expect(rounds).toEqual([[START_MS, 0], [1], [0], [START_MS, 0]]);
  });

  it("is that series of traffic go on", () => {
    const store = new SeriesStore({ proxies: 9, labelSets: 9, cells: 9, connections: 9, retireAfterMs: 9 });
    store.observe({
      proxy: "p",
      lifeMs: 0,
      labelKey: key({}),
      requests: 1,
      durationMs: 7,
      requestBytes: 1,
      responseBytes: 1,
    });
    const families = Array.from(
      pointsOf(new SeriesPoints(store, "certain").points(() => true)),
      ({ family }) => family.goesOn,
    );
    expect(families.length > 0 && families.every(Boolean)).toBe(true);
  });
});

function exporterOf(
  points: ExporterOptions["points"],
  turns: Turns,
  onBody: (body: Buffer) => void = () => {},
  onFailed: () => void = () => {},
): Exporter {
  const counts = {
    sent: () => {},
    dropped: () => {},
    retried: () => {},
    collectionFailed: onFailed,
    watch: () => {},
  };
  return new Exporter({
    intervalMs: 10,
    points,
    told: new Told(START_MS),
    encoder: new WriteRequestEncoder({ externalLabels: {}, maxSamples: 1000 }),
    queue: new MemoryQueue(1e6, () => {}),
    transport: {
      send: async (body) => {
        onBody(body);
        return DELIVERED;
      },
      close: () => {},
    },
    counts,
    turns,
    log: silentLog,
  });
}

/** An exporter of rounds; a round that is null cannot be read. */
async function exported(rounds: readonly (readonly Point[] | null)[]) {
  const bodies: Buffer[] = [];
  let failed = 0;
  let round = 0;
  const points = async () => {
    const points = rounds[Math.min(round++, rounds.length - 1)];
    if (points == null) throw new Error("not now");
    return points;
  };
  const onFailed = () => {
    failed++;
  };
  const exporter = exporterOf(points, new Turns(), (body) => bodies.push(body), onFailed);
  exporter.start();
  for (let tries = 0; tries < 200 && round < rounds.length; tries++) await sleep(5);
  await exporter.stop(1000);
  return { rounds: bodies.map((body) => Object.fromEntries(decodeWriteRequest(body).map(idAndValue))), failed };
}

describe("an exporter", () => {
  it("tells all of it each round, and once that a series is gone", async () => {
    const { rounds } = await exported([
      [counter("a", 1), counter("b", 1)],
      [counter("b", 2)],
      [counter("b", 3)],
      [counter("a", 1), counter("b", 4)],
    ]);
    const [a, b] = ['requests_total{app="a"}', 'requests_total{app="b"}'];
    expect(rounds.slice(0, 4)).toEqual([
      { [a]: 1, [b]: 1 },
      { [a]: Number.NaN, [b]: 2 },
      { [b]: 3 },
      { [a]: 1, [b]: 4 },
    ]);
  });

  it("tells nothing in a round that cannot be read: no series is gone for that", async () => {
    const { rounds, failed } = await exported([[counter("a", 1)], null, [counter("a", 2)], [counter("a", 3)]]);
    expect(failed).toBe(1);
    expect(rounds.slice(0, 3).map((round) => Object.values(round))).toEqual([[1], [2], [3]]);
  });

  it("collects once more at its stop", async () => {
    const { rounds } = await exported([[counter("a", 1)], [counter("a", 2)]]);
    expect(Object.values(rounds.at(-1) ?? {})).toEqual([2]);
    expect(rounds.length).toBeGreaterThanOrEqual(3);
  });

  it("takes turns with others that do, also where few points are found: none has more than a slice before all else has its turn", async () => {
    let sinceTurn = 0;
    let [steps, most] = [0, 0];
    function* slowSteps(): Generator<Step> {
      for (let step = 0; step < 10; step++) {
        const untilMs = performance.now() + SLICE_MS;
        while (performance.now() < untilMs);
        steps++;
        most = Math.max(most, ++sinceTurn);
        yield null;
      }
    }
    let isWatching = true;
    const watch = () => {
      sinceTurn = 0;
      if (isWatching) setImmediate(watch);
    };
    watch();
    const turns = new Turns();
    const exporters = Array.from({ length: 3 }, () => exporterOf(async () => slowSteps(), turns));
    for (const exporter of exporters) exporter.start();
    await Promise.all(exporters.map((exporter) => exporter.stop(1000)));
    isWatching = false;
    expect(steps).toBeGreaterThanOrEqual(30);
    expect(most).toBe(1);
  });
});
