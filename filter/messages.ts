// gRPC messages: how many went each way, counted while the stream lives and at its end.
//
// Envoy's grpc_stats filter keeps the two numbers as filter state, when it is there and told so (`emit_filter_state: true`). What was
// reported last is in the stream, so that each report adds what came since: no increment is lost or counted twice.

import { readProperty, utf8, valuePtr, valueSize } from "./host.ts";
import { LabelSet } from "./label-set.ts";
import { countMessages } from "./stat.ts";
import { Stream } from "./stream.ts";

/** "requests,responses" in decimal. */
const GRPC_STATS = utf8("filter_state\0envoy.filters.http.grpc_stats");

const COMMA = 0x2c;

/** Messages so far of the stream that was read last. */
let requests: u64 = 0;
let responses: u64 = 0;

/** Reads the numbers of the current stream; false when it is no gRPC stream, or nobody counts its messages. */
export function readMessages(): bool {
  if (!readProperty(GRPC_STATS)) return false;
  const end = valuePtr + valueSize;
  const comma = digitsEnd(valuePtr, end);
  if (comma === valuePtr || comma === end || load<u8>(comma) !== COMMA) return false;
  if (comma + 1 === end || digitsEnd(comma + 1, end) !== end) return false;
  requests = decimal(valuePtr, comma);
  responses = decimal(comma + 1, end);
  return true;
}

/** Reports what came since the last report. The labels are those of the stream's first report: they must not change under a count. */
export function reportMessages(stream: Stream, set: LabelSet): void {
  const known = stream.messageSet;
  const first = known === null ? set : known;
  stream.messageSet = first;
  countMessages(first, since(requests, stream.reportedRequests), since(responses, stream.reportedResponses));
  stream.reportedRequests = max(requests, stream.reportedRequests);
  stream.reportedResponses = max(responses, stream.reportedResponses);
}

/** Whether messages came since the last report of the stream. */
export function hasNewMessages(stream: Stream): bool {
  return requests > stream.reportedRequests || responses > stream.reportedResponses;
}

function since(now: u64, before: u64): u64 {
  return now > before ? now - before : 0;
}

function digitsEnd(at: usize, end: usize): usize {
  while (at < end && load<u8>(at) - 0x30 <= 9) at++;
  return at;
}

function decimal(at: usize, end: usize): u64 {
  let value: u64 = 0;
  for (; at < end; at++) value = value * 10 + <u64>(load<u8>(at) - 0x30);
  return value;
}
