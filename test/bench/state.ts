// npm run bench:state: what saving and restoring the counts takes, by the number of cells; half of them told of twice, by stats and access log.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { monitorEventLoopDelay } from "node:perf_hooks";
import { SelfMetrics } from "../../collector/self.ts";
import { packLabels } from "../../collector/series/key.ts";
import { DEFAULT_SHAPES } from "../../collector/series/shape.ts";
import { SeriesStore } from "../../collector/series/store.ts";
import { SavedShards } from "../../collector/shards/saved-shards.ts";
import { ShardState } from "../../collector/shards/state.ts";
import { SummedSeries } from "../../collector/shards/summed-series.ts";
import { Checkpoints } from "../../collector/state/checkpoints.ts";
import { HTTP_METRICS, LABELS } from "../../collector/vocabulary.ts";

const LABEL_SETS_PER_PROXY = 200;
const LIMITS = { proxies: 10_000, labelSets: 1_000_000, cells: 10_000_000, connections: 1000, retireAfterMs: 600_000 };
const SILENT = { info: () => {}, warn: () => {}, error: () => {} };

function labelKey(proxy: number, set: number): string {
  return packLabels(LABELS.map((label, index) => (index % 3 === 0 ? `${label}-${proxy % 100}-${set}` : "unknown")));
}

function fill(store: SeriesStore, cells: number): void {
  for (let proxy = 0; proxy < cells / LABEL_SETS_PER_PROXY; proxy++) {
    const id = `sidecar~10.0.${proxy >> 8}.${proxy & 255}~web-${proxy}.default~default.svc.cluster.local`;
    const samples = Array.from({ length: LABEL_SETS_PER_PROXY }, (_, set) => ({
      labelKey: labelKey(proxy, set),
      requests: 1000 + proxy,
      histograms: HTTP_METRICS.map((_metric, metric) =>
        metric === 0
          ? null
          : {
              cumulative: Float64Array.from({ length: 19 }, (_b, bucket) => Math.min(1000, bucket * 70)),
              count: 1000,
              sum: 7e4,
            },
      ),
    }));
    store.report({ proxy: id, lifeMs: 1000, samples, tcpSamples: [] });
    for (let set = 0; set < LABEL_SETS_PER_PROXY; set += 2) {
      const sizes = { requests: 1, durationMs: set, requestBytes: 100, responseBytes: 5000 };
      store.observe({ proxy: id, lifeMs: 1000, labelKey: labelKey(proxy, set), ...sizes });
    }
  }
}

async function measure(cells: number): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), "meshtally-bench-"));
  const self = new SelfMetrics(null);
  const options = { folder, intervalMs: 3_600_000, meaning: "", shapes: DEFAULT_SHAPES, self, log: SILENT };
  const first = await Checkpoints.open(options);
  const store = new SeriesStore(LIMITS);
  const state = new ShardState(store, { restored: first.restored, shard: 0, shards: 1 });
  fill(store, cells);
  const rssBefore = process.memoryUsage().rss;
  const delay = monitorEventLoopDelay({ resolution: 1 });
  delay.enable();
  const cpu = process.cpuUsage();
  const begun = performance.now();
  await first.stop(new SavedShards([state], new SummedSeries(1), () => state.takeChanges()));
  const seconds = (performance.now() - begun) / 1000;
  const { user, system } = process.cpuUsage(cpu);
  delay.disable();
  const bytes = (await self.stateBytes.get()).values[0]?.value ?? 0;
  const grown = (process.memoryUsage().rss - rssBefore) / 2 ** 20;
  const cpuBefore = process.cpuUsage();
  const again = performance.now();
  const second = await Checkpoints.open(options);
  const restored = new SeriesStore(LIMITS);
  new ShardState(restored, { restored: second.restored, shard: 0, shards: 1 });
  const restoreSeconds = (performance.now() - again) / 1000;
  const restoring = process.cpuUsage(cpuBefore);
  await second.abandon();
  rmSync(folder, { recursive: true });
  console.log(
    `${restored.http.cellCount} cells, ${restored.http.series.length} label sets: ${(bytes / 2 ** 20).toFixed(1)} MiB, saved in ` +
      `${seconds.toFixed(2)} s (${((user + system) / 1e6).toFixed(2)} s of CPU, longest turn ${(delay.max / 1e6).toFixed(0)} ms, ` +
      `${grown.toFixed(0)} MiB more memory), restored in ${restoreSeconds.toFixed(2)} s (${((restoring.user + restoring.system) / 1e6).toFixed(2)} s of CPU)`,
  );
}

for (const cells of [50_000, 200_000]) await measure(cells);
