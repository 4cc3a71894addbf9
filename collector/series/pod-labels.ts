// PodLabels: puts pod and namespace of the proxy whose report it is behind each label set (`metrics.pod_labels`; key.ts), so that each pod
// has its own.
//
// It stands before the tables, and behind KeptLabels. The overflow, the filter's or the tables', is of all pods.

import type { AccessRecord, ConnectionRecord, StatsReport } from "../record/record.ts";
import { cleanValue } from "../vocabulary.ts";
import { packPod, withPod } from "./key.ts";
import type { Life } from "./life.ts";
import type { Shape, Shapes } from "./shape.ts";

/** What a node id says of its pod; null for one that names none. */
export type PodOf = (nodeId: string) => { readonly name: string; readonly namespace: string } | null;

type AnyShape = Pick<Shape<never, never>, "index" | "overflowOf">;

/** Of one process life. */
interface LifeKeys {
  readonly pod: string;
  /** By index of the shape, by label set without a pod: the string that the life's cell has, so that none is made or hashed anew. */
  readonly known: readonly Map<string, string>[];
}

export class PodLabels {
  private readonly lives = new WeakMap<Life, LifeKeys>();

  constructor(
    private readonly podOf: PodOf,
    private readonly shapes: Shapes,
  ) {}

  record(life: Life, record: AccessRecord): AccessRecord {
    return { ...record, labelKey: this.keyOf(life, this.shapes[0], record.labelKey) };
  }

  connection(life: Life, record: ConnectionRecord): ConnectionRecord {
    return { ...record, parts: this.all(life, this.shapes[1], record.parts) };
  }

  report(life: Life, { samples, tcpSamples, ...report }: StatsReport): StatsReport {
    const [http, tcp] = this.shapes;
    return { ...report, samples: this.all(life, http, samples), tcpSamples: this.all(life, tcp, tcpSamples) };
  }

  private all<Told extends { readonly labelKey: string }>(life: Life, shape: AnyShape, told: readonly Told[]): Told[] {
    return told.map((each) => ({ ...each, labelKey: this.keyOf(life, shape, each.labelKey) }));
  }

  private keyOf(life: Life, shape: AnyShape, labelKey: string): string {
    let keys = this.lives.get(life);
    if (!keys) {
      keys = { pod: this.packedPod(life.proxy.id), known: this.shapes.map(() => new Map()) };
      this.lives.set(life, keys);
    }
    const known = keys.known[shape.index] as Map<string, string>;
    const knownKey = known.get(labelKey);
    if (knownKey !== undefined) return knownKey; // fast: nearly every record
    const key = labelKey === shape.overflowOf(labelKey) ? labelKey : withPod(labelKey, keys.pod);
    const cell = life.cells[shape.index]?.byKey.get(key);
    if (cell) known.set(labelKey, cell.series.labelKey); // so there are no more of them than cells
    return key;
  }

  /** A node id that names no pod of a namespace stands for itself. */
  private packedPod(nodeId: string): string {
    const { name, namespace } = this.podOf(nodeId) ?? { name: "", namespace: "" };
    if (name === "" || namespace === "") return packPod([cleanValue(nodeId), ""]);
    return packPod([cleanValue(name), cleanValue(namespace)]);
  }
}
