// StreamOfThreads: a stream whose messages go to the thread of the proxy that it names, as they are.

import { decodeAlsMessage, hasIdentifier } from "../proto/als.ts";
import type { MessageTap } from "../receiver/als.ts";
import type { StreamEnd, StreamReader } from "../receiver/client-stream.ts";
import type { LogWay } from "../record/record.ts";
import { identifySender, type Sender } from "../resolver/attribution.ts";
import type { Thread } from "./thread.ts";

export interface StreamOptions {
  readonly threadOf: (nodeId: string) => Thread;
  readonly tap: MessageTap;
  readonly way: LogWay;
  readonly onEnd: () => void;
}

export class StreamOfThreads implements StreamReader {
  private sender: Sender | null = null;

  constructor(
    private readonly number: number,
    private thread: Thread,
    private readonly options: StreamOptions,
  ) {
    thread.send({ kind: "open", stream: number, way: options.way });
  }

  message(bytes: Buffer): void {
    if (hasIdentifier(bytes)) this.identify(bytes);
    this.thread.message(this.number, bytes);
    if (this.options.tap.isActive) this.tap(bytes);
  }

  end(how: StreamEnd): void {
    this.thread.send({ kind: "end", stream: this.number, how });
    this.options.onEnd();
  }

  /** As the thread's reader does: a message that is broken names nobody. */
  private identify(bytes: Buffer): void {
    const identifier = decodeAlsMessage(bytes)?.identifier ?? null;
    if (identifier === null) return;
    this.sender = identifySender(identifier);
    const thread = this.options.threadOf(this.sender.id);
    if (thread === this.thread) return;
    this.thread.send({ kind: "leave", stream: this.number });
    thread.send({ kind: "open", stream: this.number, way: this.options.way });
    this.thread = thread;
  }

  private tap(bytes: Buffer): void {
    const { sender } = this;
    const message = decodeAlsMessage(bytes);
    if (message !== null && sender !== null && sender.id !== "") this.options.tap.take(bytes, message, sender);
  }
}
