// Receivers with a filled store, in a process of its own: node sender.js PROTOCOL RECEIVERS LINES URL. One round follows the other; of each it tells what
// it cost.

import { silentLog } from "../../../collector/log.ts";
import { Receivers } from "../../../collector/out/receivers.ts";
import { DEFAULT_METRICS, type ReceiverSettings } from "../../../collector/out/settings.ts";
import { SelfMetrics } from "../../../collector/self.ts";
import { fillStore, readingsOf } from "../exposition/series.ts";
import { Turns } from "./turns.ts";

/** From the sender, at the end of each round but of the first receiver's alone. */
export interface RoundNotice {
  readonly lines: number;
  readonly longestTurnMs: number;
}

const [protocol, receivers, lineCount, url] = process.argv.slice(2);
const { store, lines } = fillStore(Number(lineCount));
const turns = new Turns();
let rounds = 0;
const readings = readingsOf(store);
const settings = (name: string): ReceiverSettings => ({
  name,
  url: url as string,
  access: { headers: [], basic: null, bearer: null },
  tls: { ca: null, certificate: null, key: null },
  intervalMs: 1,
  timeoutMs: 30_000,
  maxSamples: 5000,
  queue: { folder: null, maxBytes: 2 ** 26 },
  metrics: DEFAULT_METRICS,
});
const all = Array.from({ length: Number(receivers) }, (_, index) => settings(`receiver-${index}`));
const isOtlp = protocol === "otlp";
const opened = await Receivers.open({
  readings: {
    ...readings,
    metrics: async (spans) => {
      if (rounds++ % Number(receivers) === 0) {
        process.send?.({ lines, longestTurnMs: turns.takeLongest() } satisfies RoundNotice);
      }
      return readings.metrics(spans);
    },
  },
  remoteWrite: isOtlp ? [] : all.map((each) => ({ ...each, externalLabels: {} })),
  otlpExport: isOtlp ? all.map((each) => ({ ...each, protocol: "http/protobuf", resourceAttributes: {} })) : [],
  destinationRule: "certain",
  hasPods: false,
  scrapeStatuses: () => [],
  renderSelf: async () => "",
  isContinued: false,
  self: new SelfMetrics("bench"),
  version: "bench",
  log: silentLog,
});
opened.start();
