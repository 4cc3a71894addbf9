// A request in flight. Its state lives from its first callback to its log. Bad requests come to the log alone.

import { Context } from "./context.ts";
import { LabelSet } from "./label-set.ts";
import { Root } from "./root.ts";

/**
 * More streams in flight than this, on one worker, are counted without their state (their peer is unknown), and that is counted.
 * Each may hold a peer of its own, which at the largest `max_header_bytes` takes some 64 KiB if it means harm: 1 GiB, far from the
 * 4 GiB at which memory would end.
 */
export const MAX_STREAMS = 16384;

@final
export class Stream extends Context {
  /** Whether the request carried the peer's headers: then the answer carries ours. */
  hasPeerId: bool = false;
  hasPeerMetadata: bool = false;
  /** Whether Envoy runs us as an access logger: the stream has no context of ours, and nothing can be left for the other loggers. */
  isAccessLog: bool = false;
  /** Whether its response headers came. */
  isAnswered: bool = false;
  /** The label set under which its gRPC messages are counted, once they are, and how many were. */
  messageSet: LabelSet | null = null;
  reportedRequests: u64 = 0;
  reportedResponses: u64 = 0;

  open(id: u32, root: Root): void {
    super.open(id, root);
    this.hasPeerId = false;
    this.hasPeerMetadata = false;
    this.isAccessLog = false;
    this.isAnswered = false;
    this.reportedRequests = 0;
    this.reportedResponses = 0;
  }

  clear(): void {
    super.clear();
    this.messageSet = null;
  }
}
