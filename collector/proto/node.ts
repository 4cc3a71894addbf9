// envoy.config.core.v3.Node, by which a stream's first message says who sends.
// https://github.com/envoyproxy/envoy/blob/main/api/envoy/config/core/v3/base.proto
//
//   Node { string id 1, string cluster 2, Struct metadata 3, ... }

import { type Metadata, mergeMetadata } from "./struct.ts";
import { bytesTag, WireReader } from "./wire.ts";

export const NODE_ID = bytesTag(1);
export const NODE_METADATA = bytesTag(3);

export const MAX_NODE_ID_BYTES = 1024;

/** Absent text is "". */
export interface NodeFields {
  /** `sidecar~127.0.1.4~reviews-v1.default~default.svc.cluster.local` */
  nodeId: string;
  readonly metadata: Metadata;
}

const node = new WireReader();

/** One of which nothing was read yet. */
export function newNode(): NodeFields {
  return { nodeId: "", metadata: { texts: new Map(), labels: new Map() } };
}

/** Adds what one occurrence of the message says, as protobuf merges them; false when it is malformed, or its id beyond its bound. */
export function mergeNode(bytes: Buffer, start: number, stop: number, into: NodeFields): boolean {
  node.open(bytes, start, stop);
  while (node.next()) {
    if (node.tag === NODE_ID) {
      if (node.stop - node.start > MAX_NODE_ID_BYTES) return false;
      into.nodeId = node.text();
    } else if (node.tag === NODE_METADATA) {
      if (!mergeMetadata(bytes, node.start, node.stop, into.metadata)) return false;
    }
  }
  return !node.isMalformed;
}
