// A queue of what waits for a tick, linked through itself: taking a link out of the middle is as cheap as from the end, and nothing is
// allocated.

/** A place in a queue, or none. It belongs to what waits: `owner` is the id of its context. */
@final
export class Link {
  owner: u32 = 0;
  /** Up to when it waits. */
  deadlineMs: u64 = 0;
  queue: Queue | null = null;
  previous: Link | null = null;
  next: Link | null = null;

  get isWaiting(): bool {
    return this.queue !== null;
  }

  leave(): void {
    const queue = this.queue;
    if (queue !== null) queue.remove(this);
  }
}

@final
export class Queue {
  first: Link | null = null;
  private last: Link | null = null;

  /** Puts a link at the end. It must be in no queue. */
  add(link: Link, deadlineMs: u64): void {
    const last = this.last;
    link.deadlineMs = deadlineMs;
    link.queue = this;
    link.previous = last;
    if (last === null) this.first = link;
    else last.next = link;
    this.last = link;
  }

  /** Takes a link of this queue out. */
  remove(link: Link): void {
    const previous = link.previous;
    const next = link.next;
    if (previous === null) this.first = next;
    else previous.next = next;
    if (next === null) this.last = previous;
    else next.previous = previous;
    link.queue = null;
    link.previous = null;
    link.next = null;
  }
}
