// envoy.service.accesslog.v3.StreamAccessLogsMessage: who sends, and where in the bytes each log entry lies.
// https://github.com/envoyproxy/envoy/blob/main/api/envoy/service/accesslog/v3/als.proto
//
//   StreamAccessLogsMessage { Identifier 1 { Node 1 { string id 1, string cluster 2, Struct metadata 3 }, string log_name 2 },
//                             HTTPAccessLogEntries 2 { HTTPAccessLogEntry 1 ... }, TCPAccessLogEntries 3 { ... 1 ... } }

import { mergeNode, type NodeFields, newNode } from "./node.ts";
import { bytesTag, WireReader } from "./wire.ts";

export const IDENTIFIER = bytesTag(1);
export const HTTP_LOGS = bytesTag(2);
export const TCP_LOGS = bytesTag(3);
export const LOG_ENTRY = bytesTag(1);
export const NODE = bytesTag(1);
export const LOG_NAME = bytesTag(2);

/** Bounds on what one message makes us do and hold. An entry of Envoy's is longer than 64 bytes: 4 MiB hold fewer than these. */
const MAX_ENTRIES = 65_536;

/** The sender, which a stream's first message names. Absent text is "". */
export interface AlsIdentifier extends NodeFields {
  /** `common_config.log_name` of the access logger. */
  logName: string;
}

export interface AlsMessage {
  /** Null when the message names no sender: it is the one named before on the stream. */
  readonly identifier: AlsIdentifier | null;
  /** Start and end of each HTTP entry in the bytes, flat: [start, end, start, end, ...]. */
  readonly httpEntries: readonly number[];
  /** The same of each TCP entry. */
  readonly tcpEntries: readonly number[];
}

const message = new WireReader();
const nested = new WireReader();

/** Whether a message may name a sender, at the cost of a few bytes: what it holds besides is passed over. */
export function hasIdentifier(bytes: Buffer): boolean {
  message.open(bytes, 0, bytes.length);
  while (message.next()) if (message.tag === IDENTIFIER) return true;
  return false;
}

/**
 * Reads a message down to its entries, which are not looked into. Null when that framing is broken anywhere, or beyond a bound: then
 * no entry of it is taken, so none is counted twice or by half. Fields that occur more than once are merged, as protobuf demands.
 */
export function decodeAlsMessage(bytes: Buffer): AlsMessage | null {
  let identifier: AlsIdentifier | null = null;
  const httpEntries: number[] = [];
  const tcpEntries: number[] = [];
  message.open(bytes, 0, bytes.length);
  while (message.next()) {
    switch (message.tag) {
      case IDENTIFIER:
        identifier ??= { ...newNode(), logName: "" };
        if (!mergeIdentifier(bytes, message.start, message.stop, identifier)) return null;
        break;
      case HTTP_LOGS:
      case TCP_LOGS: {
        const entries = message.tag === HTTP_LOGS ? httpEntries : tcpEntries;
        nested.open(bytes, message.start, message.stop);
        while (nested.next()) {
          if (nested.tag === LOG_ENTRY) entries.push(nested.start, nested.stop);
        }
        if (nested.isMalformed || httpEntries.length + tcpEntries.length > MAX_ENTRIES * 2) return null;
        break;
      }
    }
  }
  return message.isMalformed ? null : { identifier, httpEntries, tcpEntries };
}

function mergeIdentifier(bytes: Buffer, start: number, stop: number, identifier: AlsIdentifier): boolean {
  nested.open(bytes, start, stop);
  while (nested.next()) {
    if (nested.tag === LOG_NAME) identifier.logName = nested.text();
    else if (nested.tag === NODE && !mergeNode(bytes, nested.start, nested.stop, identifier)) return false;
  }
  return !nested.isMalformed;
}
