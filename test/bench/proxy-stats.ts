// What a busy proxy shows of itself: 200 label sets, in the text and in the protobuf of Envoy 1.40.0, whose answers it was written after.

import {
  BUILD_METRIC,
  HISTOGRAM_BOUNDS,
  HTTP_METRICS,
  LABELS,
  Label,
  NODE_METRIC,
  START_TIME_METRIC,
} from "../../collector/vocabulary.ts";

export const LABEL_SETS = 200;

export type StatsForm = "text" | "protobuf";

export function nodeIdOf(proxy: number): string {
  return `sidecar~10.0.${proxy >> 8}.${proxy & 255}~workload-${proxy}-6d5f8c7b9-x2x4z.default~default.svc.cluster.local`;
}

/** As long as real ones: a line has some 900 bytes. */
function labelValues(proxy: number, index: number): string[] {
  const values: string[] = LABELS.map((label) =>
    label.endsWith("principal") ? "spiffe://cluster.local/ns/default/sa/web" : "reviews",
  );
  values[Label.Reporter] = "destination";
  values[Label.SourceWorkload] = `productpage-v${index}`;
  values[Label.DestinationWorkload] = `workload-${proxy}`;
  values[Label.DestinationService] = "reviews.default.svc.cluster.local";
  values[Label.ResponseCode] = String(200 + (index % 4) * 100);
  return values;
}

/** The series, the same for one proxy at all times; every count is `requests` or a part of it. */
export function proxyStats(form: StatsForm, proxy: number, requests: number): Buffer {
  return form === "text" ? textStats(labelSetsOf(proxy), requests) : protobufStats(labelBytesOf(proxy), requests);
}

function labelSetsOf(proxy: number): string[][] {
  return Array.from({ length: LABEL_SETS }, (_, index) => labelValues(proxy, index));
}

/** Who it is: what stands beside the series. */
export function proxyIdentity(form: StatsForm, proxy: number, startMs: number): Buffer {
  const hex = Buffer.from(nodeIdOf(proxy)).toString("hex");
  const node = { component: "proxy", tag: hex };
  if (form === "text") {
    const label = `component="proxy",tag="${hex}"`;
    return Buffer.from(
      `# TYPE ${NODE_METRIC} gauge\n${NODE_METRIC}{${label}} 1\n# TYPE ${START_TIME_METRIC} gauge\n${START_TIME_METRIC}{} ${startMs}\n` +
        `# TYPE ${BUILD_METRIC} gauge\n${BUILD_METRIC}{component="proxy",tag="1.29.0"} 1\nenvoy_server_hot_restart_epoch{} 0\n`,
    );
  }
  return Buffer.concat([
    family(NODE_METRIC, 1, [metric(Object.entries(node), field(2, double(1, 1)))]),
    family(START_TIME_METRIC, 1, [metric([], field(2, double(1, startMs)))]),
    family("envoy_server_hot_restart_epoch", 1, [metric([], field(2, double(1, 0)))]),
  ]);
}

/** Of `requests` samples: how many are in each bucket or one below. */
function bucketsOf(requests: number): number[] {
  return HISTOGRAM_BOUNDS.map((_, index) => Math.floor((requests * index) / (HISTOGRAM_BOUNDS.length - 1)));
}

// === text ===

function textStats(sets: readonly string[][], requests: number): Buffer {
  const lines: string[] = [];
  const labels = sets.map((values) => values.map((value, index) => `${LABELS[index]}="${value}"`).join(","));
  for (const { name } of HTTP_METRICS) {
    const isCounter = name === "istio_requests_total";
    lines.push(`# TYPE ${name} ${isCounter ? "counter" : "histogram"}`);
    for (const text of labels) {
      if (isCounter) lines.push(`${name}{${text}} ${requests}`);
      else lines.push(...histogramLines(name, text, requests));
    }
  }
  return Buffer.from(`${lines.join("\n")}\n`);
}

function histogramLines(name: string, labels: string, requests: number): string[] {
  const counts = bucketsOf(requests);
  return [
    ...HISTOGRAM_BOUNDS.map((bound, index) => `${name}_bucket{${labels},le="${bound}"} ${counts[index]}`),
    `${name}_bucket{${labels},le="+Inf"} ${requests}`,
    `${name}_sum{${labels}} ${requests * 17.5}`,
    `${name}_count{${labels}} ${requests}`,
  ];
}

// === protobuf ===

const labelBytes = new Map<number, readonly Buffer[]>();

/** Made once for each proxy: of every label set the labels, as they stand in a metric. */
function labelBytesOf(proxy: number): readonly Buffer[] {
  const known = labelBytes.get(proxy);
  if (known !== undefined) return known;
  const made = labelSetsOf(proxy).map((values) =>
    labelsField(values.map((value, index) => [LABELS[index] as string, value] as const)),
  );
  labelBytes.set(proxy, made);
  return made;
}

function protobufStats(labels: readonly Buffer[], requests: number): Buffer {
  const counts = bucketsOf(requests);
  const buckets = HISTOGRAM_BOUNDS.map((bound, index) =>
    field(3, Buffer.concat([integer(1, counts[index] as number), double(2, bound)])),
  );
  const histogram = field(7, Buffer.concat([integer(1, requests), double(2, requests * 17.5), ...buckets]));
  const counter = field(3, double(1, requests));
  return Buffer.concat(
    HTTP_METRICS.map(({ name }) => {
      const isCounter = name === "istio_requests_total";
      const value = isCounter ? counter : histogram;
      return family(
        name,
        isCounter ? 0 : 4,
        labels.map((bytes) => field(4, Buffer.concat([bytes, value]))),
      );
    }),
  );
}

function family(name: string, type: number, metrics: readonly Buffer[]): Buffer {
  const bytes = Buffer.concat([field(1, Buffer.from(name)), integer(3, type), ...metrics]);
  return Buffer.concat([varint(bytes.length), bytes]);
}

function metric(labels: readonly (readonly [string, string])[], value: Buffer): Buffer {
  return field(4, Buffer.concat([labelsField(labels), value]));
}

function labelsField(labels: readonly (readonly [string, string])[]): Buffer {
  const pairs = labels.map(([name, text]) =>
    field(1, Buffer.concat([field(1, Buffer.from(name)), field(2, Buffer.from(text))])),
  );
  return Buffer.concat(pairs);
}

function field(number: number, bytes: Buffer): Buffer {
  return Buffer.concat([varint(number * 8 + 2), varint(bytes.length), bytes]);
}

function integer(number: number, value: number): Buffer {
  return Buffer.concat([varint(number * 8), varint(value)]);
}

function double(number: number, value: number): Buffer {
  const bytes = Buffer.alloc(9);
  bytes[0] = number * 8 + 1;
  bytes.writeDoubleLE(value, 1);
  return bytes;
}

function varint(value: number): Buffer {
  const bytes: number[] = [];
  let left = value;
  for (; left > 127; left = Math.floor(left / 128)) bytes.push((left % 128) | 128);
  return Buffer.from([...bytes, left]);
}
