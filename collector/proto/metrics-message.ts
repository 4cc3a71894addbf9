// envoy.service.metrics.v3.StreamMetricsMessage: who sends, and where in the bytes each metric family lies.
// https://github.com/envoyproxy/envoy/blob/main/api/envoy/service/metrics/v3/metrics_service.proto
//
//   StreamMetricsMessage { Identifier 1 { Node 1 }, MetricFamily 2 ... }

import { mergeNode, type NodeFields, newNode } from "./node.ts";
import { bytesTag, WireReader } from "./wire.ts";

const IDENTIFIER = bytesTag(1);
const FAMILY = bytesTag(2);
const NODE = bytesTag(1);

/**
 * Walks one message: `if (message.open(bytes)) while (message.nextFamily()) { message.start, stop }`. A message may have megabytes and
 * ten thousands of families: nothing is kept of them.
 */
export class MetricsMessageReader {
  /** The sender; null when the message names none: it is the one named before on the stream. */
  node: NodeFields | null = null;
  /** Where the current family lies in the bytes. */
  start = 0;
  stop = 0;
  private bytes: Buffer = Buffer.alloc(0);
  private readonly fields = new WireReader();
  private readonly identifier = new WireReader();

  /** False when the framing is broken anywhere: then no family of it is taken, so none is counted by half. */
  open(bytes: Buffer): boolean {
    const { fields } = this;
    this.node = null;
    this.bytes = bytes;
    fields.open(bytes, 0, bytes.length);
    while (fields.next()) {
      if (fields.tag === IDENTIFIER && !this.readIdentifier(bytes, fields.start, fields.stop)) return false;
    }
    if (fields.isMalformed) return false;
    this.rewind();
    return true;
  }

  /** Goes back to before the first family. */
  rewind(): void {
    this.fields.open(this.bytes, 0, this.bytes.length);
  }

  nextFamily(): boolean {
    const { fields } = this;
    while (fields.next()) {
      if (fields.tag !== FAMILY) continue;
      this.start = fields.start;
      this.stop = fields.stop;
      return true;
    }
    return false;
  }

  private readIdentifier(bytes: Buffer, start: number, stop: number): boolean {
    const { identifier } = this;
    this.node ??= newNode();
    identifier.open(bytes, start, stop);
    while (identifier.next()) {
      if (identifier.tag === NODE && !mergeNode(bytes, identifier.start, identifier.stop, this.node)) return false;
    }
    return !identifier.isMalformed;
  }
}
