// Plan: which metrics are kept of a request or a connection and which labels each carries. Rules that hold for it change the standard
// plan; those for which the same rules hold share one plan.

import { isTcpLabel, LABELS, PEER_LABEL_COUNT } from "../vocabulary/labels.ts";
import {
  HTTP_METRICS,
  MESSAGE_METRICS,
  METRIC_PREFIX,
  Metric,
  MetricKind,
  TCP_METRICS,
} from "../vocabulary/metrics.ts";
import { FIELD_SEPARATOR, VALUE_SEPARATOR } from "../vocabulary/stat-name.ts";
import { Writer } from "../wire/writer.ts";

/** Label that stands for none of LABELS. */
const NOT_STANDARD = -1;
/** Value that no operand gives: a standard label's own. */
export const STANDARD_VALUE = -1;

/** A label of a metric and where its value comes from. */
export class Tag {
  constructor(
    readonly name: string,
    /** Index in LABELS, or NOT_STANDARD. */
    readonly label: i32,
    /** STANDARD_VALUE, or the operand. */
    readonly operand: i32,
  ) {}
}

/** A metric: rows of HTTP_METRICS, of MESSAGE_METRICS, of TCP_METRICS, then the user's own definitions. */
export class Row {
  isDropped: bool = false;

  constructor(
    readonly name: string,
    readonly kind: MetricKind,
    readonly isStandard: bool,
    public tags: Tag[],
  ) {}

  /** Istio's name of it in a configuration: without "istio_". */
  get shortName(): string {
    return this.name.substring(METRIC_PREFIX.length);
  }

  /** Writes the labels as they stand in a stat's name, from the standard values and those of the operands. */
  writeTags(out: Writer, values: StaticArray<string>, operands: Map<i32, string>): void {
    for (let i = 0; i < this.tags.length; i++) {
      const tag = this.tags[i];
      out.text(tag.name);
      out.text(VALUE_SEPARATOR);
      out.text(tagValue(tag, values, operands));
      out.text(FIELD_SEPARATOR);
    }
  }

  /** The value of each of LABELS; "" for one that is not carried. */
  standardValues(values: StaticArray<string>, operands: Map<i32, string>): StaticArray<string> {
    const carried = new StaticArray<string>(LABELS.length).fill("");
    for (let i = 0; i < this.tags.length; i++) {
      const tag = this.tags[i];
      if (tag.label !== NOT_STANDARD) carried[tag.label] = tagValue(tag, values, operands);
    }
    return carried;
  }

  remove(label: string): void {
    const at = this.indexOf(label);
    if (at < 0 || this.tags[at].label === NOT_STANDARD) return; // Istio: standard labels only
    this.tags = this.tags.slice(0);
    this.tags.splice(at, 1);
  }

  /**
   * Gives the label the operand's value, whether it is there or not. A new label goes before those that end in its name: Envoy takes the
   * first place in a stat's name where a label's name is found, so `app` behind `source_app` would be given the latter's value.
   */
  set(label: string, operand: i32): void {
    const standard = this.isStandard ? LABELS.indexOf(label) : NOT_STANDARD;
    const tag = new Tag(label, standard, operand);
    const known = this.indexOf(label);
    const tags = this.tags.slice(0, known >= 0 ? known : this.placeOf(label));
    tags.push(tag);
    this.tags = tags.concat(this.tags.slice(known >= 0 ? known + 1 : tags.length - 1));
  }

  private placeOf(label: string): i32 {
    for (let i = 0; i < this.tags.length; i++) {
      if (this.tags[i].name.endsWith(label)) return i;
    }
    return this.tags.length;
  }

  private indexOf(label: string): i32 {
    for (let i = 0; i < this.tags.length; i++) {
      if (this.tags[i].name === label) return i;
    }
    return -1;
  }
}

function tagValue(tag: Tag, values: StaticArray<string>, operands: Map<i32, string>): string {
  if (tag.operand === STANDARD_VALUE) return values[tag.label];
  return operands.has(tag.operand) ? operands.get(tag.operand) : ""; // of a metric that is dropped
}

/** Where the rows of MESSAGE_METRICS, of TCP_METRICS and of the definitions begin. */
export const MESSAGE_ROWS = HTTP_METRICS.length;
export const TCP_ROWS = MESSAGE_ROWS + MESSAGE_METRICS.length;
export const DEFINITION_ROWS = TCP_ROWS + TCP_METRICS.length;

/** What a plan is for. */
export enum Subject {
  /** A request that is over: the HTTP metrics, the messages, the definitions. */
  Request,
  /** A request in flight: its messages alone. */
  Messages,
  /** A TCP connection: the TCP metrics and the definitions. */
  Connection,
}

export class Plan {
  /** For each of LABELS, whether a metric carries its standard value. */
  readonly usesLabel: StaticArray<bool> = new StaticArray<bool>(LABELS.length);

  constructor(
    /** Equal for plans with equal content, also of different configurations; 0 is the standard plan. */
    readonly serial: u32,
    readonly rows: Row[],
    /** The operands of all tags, each once, in the order of the rows. */
    readonly operands: i32[],
    readonly subject: Subject,
  ) {
    for (let i = 0; i < rows.length; i++) {
      const tags = rows[i].tags;
      for (let t = 0; t < tags.length; t++) {
        if (tags[t].operand === STANDARD_VALUE && !rows[i].isDropped) this.usesLabel[tags[t].label] = true;
      }
    }
  }
}

/** The rows of the standard metrics, each with its standard labels. Those that the subject has no part in are dropped. */
export function standardRows(subject: Subject): Row[] {
  const rows: Row[] = [];
  const all = standardTags();
  addRows(rows, HTTP_METRICS, all, subject === Subject.Request);
  addRows(rows, MESSAGE_METRICS, all.slice(0, PEER_LABEL_COUNT), subject !== Subject.Connection);
  const ofTcp: Tag[] = [];
  for (let i = 0; i < all.length; i++) {
    if (isTcpLabel(i)) ofTcp.push(all[i]);
  }
  addRows(rows, TCP_METRICS, ofTcp, subject === Subject.Connection);
  return rows;
}

function standardTags(): Tag[] {
  const tags: Tag[] = [];
  for (let i = 0; i < LABELS.length; i++) tags.push(new Tag(LABELS[i], i, STANDARD_VALUE));
  return tags;
}

function addRows(rows: Row[], metrics: readonly Metric[], tags: Tag[], isKept: bool): void {
  for (let i = 0; i < metrics.length; i++) {
    const row = new Row(metrics[i].name, metrics[i].kind, true, tags);
    row.isDropped = !isKept;
    rows.push(row);
  }
}

/** What a configuration that changes nothing does with a request. */
export const STANDARD_PLAN = new Plan(0, standardRows(Subject.Request), [], Subject.Request);

/**
 * What stands for all plans beyond those that are told apart. Under whatever labels and metrics a request or a connection would have come,
 * it is counted in the overflow as a standard one.
 */
export const BEYOND_PLAN = new Plan(u32.MAX_VALUE, standardRows(Subject.Request), [], Subject.Request);
export const BEYOND_CONNECTION_PLAN = new Plan(
  u32.MAX_VALUE - 1,
  standardRows(Subject.Connection),
  [],
  Subject.Connection,
);
