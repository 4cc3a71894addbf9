// TCP connections from one entry to the next: Envoy's numbers are totals of the connection, and each entry says them again. So a connection
// is remembered until its end; one for which there is no room waits for some, and is told whole then, or at its end.

import { Remembered } from "../record/remembered.ts";

const MAX_CONNECTIONS = 50_000;
/** Of which nothing was heard for so long, while there is no room, that its proxy must have ended without a word. */
const FORSAKEN_MS = 3_600_000;

export interface Bytes {
  readonly received: number;
  readonly sent: number;
}

/** What an entry says of its connection that was not told before. */
export interface ConnectionNews {
  /** Whether it is told for the first time: of all its entries, of one. */
  readonly isFirst: boolean;
  /** Whether it is the first that tells of its end. */
  readonly isLast: boolean;
  /** Null when an entry before this one may have been missed, or when it waits. */
  readonly gained: Bytes | null;
}

interface Known {
  readonly total: Bytes;
  readonly heardMs: number;
}

const NO_NEWS: ConnectionNews = { isFirst: false, isLast: false, gained: null };

export class ConnectionBytes {
  /** Those of which nothing was heard for longest first. */
  private readonly known = new Map<string, Known>();
  /** Those whose end was told: another access logger, or another way, tells it again. */
  private ended = new Remembered();
  /** Connections that began before it may have had entries that were not seen. */
  private sinceMs: number;

  constructor(
    private readonly now: () => number,
    private readonly limit = MAX_CONNECTIONS,
  ) {
    this.sinceMs = now();
  }

  /** Forgets all connections: entries were missed, or will be. */
  restart(): void {
    this.known.clear();
    this.ended = new Remembered();
    this.sinceMs = this.now();
  }

  /** One without an id is nothing but its end. */
  take(streamId: string, startMs: number | null, total: Bytes, isOver: boolean): ConnectionNews {
    if (streamId === "") return { isFirst: isOver, isLast: isOver, gained: null };
    if (isOver ? this.ended.add(streamId) : this.ended.has(streamId)) return NO_NEWS;
    const before = this.known.get(streamId)?.total;
    this.known.delete(streamId);
    if (!isOver && !this.remember(streamId, largest(total, before))) return NO_NEWS;
    if (before === undefined) {
      return { isFirst: true, isLast: isOver, gained: startMs !== null && startMs >= this.sinceMs ? total : null };
    }
    const received = Math.max(0, total.received - before.received);
    return { isFirst: false, isLast: isOver, gained: { received, sent: Math.max(0, total.sent - before.sent) } };
  }

  /** False when there is no room. */
  private remember(streamId: string, total: Bytes): boolean {
    const nowMs = this.now();
    if (this.known.size >= this.limit && !this.forgetForsaken(nowMs)) return false;
    this.known.set(streamId, { total, heardMs: nowMs });
    return true;
  }

  private forgetForsaken(nowMs: number): boolean {
    const [oldest] = this.known;
    if (oldest === undefined || nowMs - oldest[1].heardMs < FORSAKEN_MS) return false;
    return this.known.delete(oldest[0]);
  }
}

/** An entry may be late, or of a logger that lags behind another. */
function largest(total: Bytes, before: Bytes | undefined): Bytes {
  if (before === undefined) return total;
  return { received: Math.max(total.received, before.received), sent: Math.max(total.sent, before.sent) };
}
