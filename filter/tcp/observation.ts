// The observation of a connection, for the access loggers: all that was counted for it so far. Layout: vocabulary/observation.ts.

import { noteColdWork } from "../garbage.ts";
import { setFilterState, utf8 } from "../host.ts";
import { LabelSet } from "../label-set.ts";
import { startTimeMs } from "../start-time.ts";
import { LABELS } from "../vocabulary/labels.ts";
import { TcpMetric } from "../vocabulary/metrics.ts";
import {
  OBSERVATION_CLOSED_OFFSET,
  OBSERVATION_CONNECTION_OFFSET,
  OBSERVATION_KIND_OFFSET,
  OBSERVATION_KIND_TCP,
  OBSERVATION_LABEL_COUNT_OFFSET,
  OBSERVATION_PART_LABELS_OFFSET,
  OBSERVATION_PART_RECEIVED_OFFSET,
  OBSERVATION_PART_SENT_OFFSET,
  OBSERVATION_PARTS_OFFSET,
  OBSERVATION_START_OFFSET,
  OBSERVATION_VERSION,
} from "../vocabulary/observation.ts";
import { OBSERVATION } from "../vocabulary/peer-metadata.ts";
import { Writer } from "../wire/writer.ts";
import { Connection } from "./connection.ts";

const NAME = utf8(OBSERVATION);
const BYTE_METRICS: u8 = ((<u8>1) << (<u8>TcpMetric.SentBytes)) | ((<u8>1) << (<u8>TcpMetric.ReceivedBytes));

/** An observation without parts. */
const NOTHING_YET = packNothing();

function packNothing(): StaticArray<u8> {
  const packed = new StaticArray<u8>(OBSERVATION_PARTS_OFFSET + 1);
  packed[0] = <u8>OBSERVATION_VERSION;
  packed[OBSERVATION_KIND_OFFSET] = <u8>OBSERVATION_KIND_TCP;
  packed[OBSERVATION_LABEL_COUNT_OFFSET] = <u8>LABELS.length;
  return packed;
}

/** Says that nothing was counted for the current connection yet. Without, a log entry might be taken for one of a proxy without the filter. */
export function leaveNothingYet(): void {
  store<u64>(changetype<usize>(NOTHING_YET) + OBSERVATION_START_OFFSET, startTimeMs());
  setFilterState(NAME, NOTHING_YET);
}

/** Leaves the observation as filter state of the current connection. */
export function leaveConnection(connection: Connection, isClosed: bool): void {
  const set = connection.set;
  if (set === null) return;
  const later = connection.laterSet;
  const packed = later === null ? set.observation : joined(set, later);
  const at = changetype<usize>(packed);
  store<u8>(at + OBSERVATION_CLOSED_OFFSET, isClosed ? 1 : 0);
  store<u64>(at + OBSERVATION_START_OFFSET, startTimeMs());
  store<u64>(at + OBSERVATION_CONNECTION_OFFSET, connection.number);
  const first = <i32>load<u8>(changetype<usize>(set.observation) + OBSERVATION_PARTS_OFFSET);
  let part = at + OBSERVATION_PARTS_OFFSET + 1;
  const sent = later === null ? connection.sent : connection.sentBefore;
  const received = later === null ? connection.received : connection.receivedBefore;
  for (let i = 0; i < first; i++) part = fillPart(part, sent, received);
  const all = <i32>load<u8>(at + OBSERVATION_PARTS_OFFSET);
  for (let i = first; i < all; i++) {
    part = fillPart(part, connection.sent - connection.sentBefore, connection.received - connection.receivedBefore);
  }
  setFilterState(NAME, packed);
}

/** Writes the numbers of a part; returns where the next one begins. */
function fillPart(part: usize, sent: u64, received: u64): usize {
  store<u64>(part + OBSERVATION_PART_SENT_OFFSET, sent);
  store<u64>(part + OBSERVATION_PART_RECEIVED_OFFSET, received);
  return partEnd(part);
}

function partEnd(part: usize): usize {
  let at = part + OBSERVATION_PART_LABELS_OFFSET;
  for (let i = 0; i < LABELS.length; i++) at += 1 + <usize>load<u8>(at);
  return at;
}

/** The parts of both label sets: of the later one bytes alone are counted. */
function joined(set: LabelSet, later: LabelSet): StaticArray<u8> {
  noteColdWork(4);
  const out = new Writer();
  out.copy(changetype<usize>(set.observation), set.observation.length);
  let parts = set.observation[OBSERVATION_PARTS_OFFSET];
  let part = changetype<usize>(later.observation) + OBSERVATION_PARTS_OFFSET + 1;
  for (let left = later.observation[OBSERVATION_PARTS_OFFSET]; left > 0; left--) {
    const end = partEnd(part);
    const metrics = load<u8>(part) & BYTE_METRICS;
    if (metrics !== 0) {
      parts++;
      out.u8(metrics);
      out.copy(part + 1, <i32>(end - part) - 1);
    }
    part = end;
  }
  const packed = out.take();
  packed[OBSERVATION_PARTS_OFFSET] = parts;
  return packed;
}
