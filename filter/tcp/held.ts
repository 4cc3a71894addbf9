// Bytes from the upstream that were taken out of Envoy's buffer, since they may be the beginning of a prefix. Nobody but the next bytes can
// bring them back: Envoy gives a filter no means of writing on its own.

import { Writer } from "../wire/writer.ts";

@final
export class Held {
  private readonly bytes: Writer = new Writer();
  /** Whether the rest took too long. */
  isOverdue: bool = false;

  get ptr(): usize {
    return this.bytes.ptr;
  }

  get size(): i32 {
    return this.bytes.length;
  }

  add(ptr: usize, size: i32): void {
    this.bytes.copy(ptr, size);
  }
}
