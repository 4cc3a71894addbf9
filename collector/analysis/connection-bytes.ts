// Bytes of TCP connections from one entry to the next: Envoy's numbers are totals of the connection, and each entry says them again.

const MAX_CONNECTIONS = 10_000;

export interface Bytes {
  readonly received: number;
  readonly sent: number;
}

export class ConnectionBytes {
  private readonly totals = new Map<string, Bytes>();
  /** Connections that began before it may have had entries that were not seen. */
  private sinceMs: number;

  constructor(private readonly now: () => number) {
    this.sinceMs = now();
  }

  /** Forgets all connections: entries were missed, or will be. */
  restart(): void {
    this.totals.clear();
    this.sinceMs = this.now();
  }

  knows(streamId: string): boolean {
    return this.totals.has(streamId);
  }

  /** What this entry's totals say more than those of the one before; null when that one may have been missed. */
  difference(streamId: string, startMs: number | null, total: Bytes, isOver: boolean): Bytes | null {
    if (streamId === "") return null;
    const before = this.totals.get(streamId);
    if (isOver) this.totals.delete(streamId);
    else this.remember(streamId, total);
    if (before === undefined) return startMs !== null && startMs >= this.sinceMs ? total : null;
    return {
      received: Math.max(0, total.received - before.received),
      sent: Math.max(0, total.sent - before.sent),
    };
  }

  private remember(streamId: string, total: Bytes): void {
    if (this.totals.size >= MAX_CONNECTIONS && !this.totals.has(streamId)) this.restart();
    this.totals.set(streamId, total);
  }
}
