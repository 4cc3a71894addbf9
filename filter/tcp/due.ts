// Due: what the connections of a root wait for. A tick looks at these alone, so that idle connections cost it nothing.

import { Root } from "../root.ts";
import { Queue } from "./queue.ts";

@final
export class Due {
  /** Connections that were not reported yet, oldest first. */
  readonly unreported: Queue = new Queue();
  /** Those that carried bytes since their last report. */
  readonly changed: Queue = new Queue();
  /** Those whose first bytes wait for the rest of a prefix, oldest first. */
  readonly holding: Queue = new Queue();
}

const byRoot = new Map<u32, Due>();

/** What is due of a root's connections; nothing before the first one. */
export function dueOf(rootId: u32): Due {
  if (byRoot.has(rootId)) return byRoot.get(rootId);
  const due = new Due();
  byRoot.set(rootId, due);
  return due;
}

/** Call when the root is gone, and all its connections with it. */
export function forgetDue(root: Root): void {
  byRoot.delete(root.id);
}
