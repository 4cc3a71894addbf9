// An observation of kind 2 -> what the filter counted so far for a TCP connection. Layout: filter/vocabulary/observation.ts.

import type { FilterState } from "../proto/map-entry.ts";
import type { DropReason } from "../self.ts";
import {
  isTcpLabel,
  LABELS,
  OBSERVATION_CLOSED_OFFSET,
  OBSERVATION_CONNECTION_OFFSET,
  OBSERVATION_KIND_OFFSET,
  OBSERVATION_KIND_TCP,
  OBSERVATION_LABEL_COUNT_OFFSET,
  OBSERVATION_OMITTED_OFFSET,
  OBSERVATION_PART_LABELS_OFFSET,
  OBSERVATION_PART_RECEIVED_OFFSET,
  OBSERVATION_PART_SENT_OFFSET,
  OBSERVATION_PARTS_OFFSET,
  OBSERVATION_START_OFFSET,
  OBSERVATION_VERSION,
  TcpMetric,
} from "../vocabulary.ts";
import { endOfLabels, type LabelKeys, readUint64 } from "./packed.ts";
import type { ConnectionPart } from "./record.ts";

/** Four metrics with a label set each, twice for bytes: more parts than that are no filter's, and would be held for each connection. */
const MAX_PARTS = 16;
/** Metrics that only one part of a connection may count. */
const COUNTED_ONCE = (1 << TcpMetric.Opened) | (1 << TcpMetric.Closed);
const BYTES = (1 << TcpMetric.SentBytes) | (1 << TcpMetric.ReceivedBytes);

export interface TcpObservation {
  readonly lifeMs: number;
  readonly connectionId: number;
  readonly isClosed: boolean;
  readonly parts: readonly ConnectionPart[];
  /** What the connection's ends sent each other, without what proxies exchange; null where the configuration drops one of both metrics. */
  readonly bytes: TcpBytes | null;
}

/** Since the connection began, as its downstream has it. */
export interface TcpBytes {
  readonly received: number;
  readonly sent: number;
}

/** All of it is read before any of it is handed on; else why it cannot be used. */
export function readTcpObservation(
  bytes: Buffer,
  { start, stop }: FilterState,
  labelKeys: LabelKeys,
): TcpObservation | DropReason {
  if (stop - start <= OBSERVATION_KIND_OFFSET || bytes[start] !== OBSERVATION_VERSION) return "entry_malformed";
  if (bytes[start + OBSERVATION_KIND_OFFSET] !== OBSERVATION_KIND_TCP) return "kind_unknown";
  if (stop - start <= OBSERVATION_PARTS_OFFSET) return "entry_malformed";
  if (bytes[start + OBSERVATION_LABEL_COUNT_OFFSET] !== LABELS.length) return "entry_malformed";
  const closed = bytes[start + OBSERVATION_CLOSED_OFFSET] as number;
  const parts = closed > 1 ? null : readParts(bytes, start, stop, closed, labelKeys);
  if (parts === null) return "entry_malformed";
  return {
    lifeMs: readUint64(bytes, start + OBSERVATION_START_OFFSET),
    connectionId: readUint64(bytes, start + OBSERVATION_CONNECTION_OFFSET),
    isClosed: closed === 1,
    parts,
    bytes: (bytes[start + OBSERVATION_OMITTED_OFFSET] as number) & BYTES ? null : bytesOf(parts),
  };
}

function bytesOf(parts: readonly ConnectionPart[]): TcpBytes {
  const total = (metric: TcpMetric) => parts.reduce((sum, { counts }) => sum + (counts[metric] as number), 0);
  return { received: total(TcpMetric.ReceivedBytes), sent: total(TcpMetric.SentBytes) };
}

/** Null when they are cut short, too many, or count something twice. */
function readParts(
  bytes: Buffer,
  start: number,
  stop: number,
  closed: number,
  labelKeys: LabelKeys,
): ConnectionPart[] | null {
  const parts: ConnectionPart[] = [];
  const omitted = bytes[start + OBSERVATION_OMITTED_OFFSET] as number;
  let countedOnce = 0;
  let at = start + OBSERVATION_PARTS_OFFSET;
  const count = bytes[at++] as number;
  if (count > MAX_PARTS) return null;
  for (let left = count; left > 0; left--) {
    const labels = at + OBSERVATION_PART_LABELS_OFFSET;
    const end = endOfLabels(bytes, labels, stop);
    if (end > stop) return null;
    const metrics = bytes[at] as number;
    if ((metrics & (omitted | countedOnce)) !== 0) return null; // twice would be counted twice
    countedOnce |= metrics & COUNTED_ONCE;
    const labelKey = labelKeys.read(bytes, labels, end);
    if (labelKey === null || !isTcpLabelKey(labelKey)) return null;
    parts.push({ labelKey, counts: readCounts(bytes, at, metrics, closed) });
    at = end;
  }
  return at === stop ? parts : null;
}

/** By TcpMetric; 0 where the part has not the metric's bit. */
function readCounts(bytes: Buffer, at: number, metrics: number, closed: number): number[] {
  const has = (metric: TcpMetric) => (metrics & (1 << metric)) !== 0;
  return [
    has(TcpMetric.Opened) ? 1 : 0,
    has(TcpMetric.Closed) ? closed : 0,
    has(TcpMetric.SentBytes) ? readUint64(bytes, at + OBSERVATION_PART_SENT_OFFSET) : 0,
    has(TcpMetric.ReceivedBytes) ? readUint64(bytes, at + OBSERVATION_PART_RECEIVED_OFFSET) : 0,
  ];
}

/** Whether the labels that TCP metrics do not carry are empty: they are not shown, so two that differ in them would be one series twice. */
function isTcpLabelKey(labelKey: string): boolean {
  let at = 0;
  for (const label of LABELS.keys()) {
    const length = labelKey.charCodeAt(at);
    if (length > 0 && !isTcpLabel(label)) return false;
    at += 1 + length;
  }
  return true;
}
