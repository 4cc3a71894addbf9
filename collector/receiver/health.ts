// Whether the server is ready, as grpc.health.v1.Health says it. The messages are two bytes; no transport here.
// https://github.com/grpc/grpc-proto/blob/master/grpc/health/v1/health.proto
//
//   HealthCheckRequest { string service = 1 }    HealthCheckResponse { ServingStatus status = 1 }

import { bytesTag, WireReader } from "../proto/wire.ts";

export const HEALTH_SERVICE = "grpc.health.v1.Health";
const SERVING = 1;
const NOT_SERVING = 2;
const SERVICE_UNKNOWN = 3;
const SERVICE = bytesTag(1);

/** Readiness is asked for so often, while somebody watches it. */
const TICK_MS = 250;
const MAX_WATCHERS = 256;

/** Takes an encoded HealthCheckResponse. */
type Watcher = (response: Buffer) => void;

export class Health {
  private readonly services = new Set([""]);
  private readonly watchers = new Set<() => void>();
  private timer: NodeJS.Timeout | undefined;

  /** `isServing`: asked whenever it matters. */
  constructor(private readonly isServing: () => boolean) {}

  add(service: string): void {
    this.services.add(service);
  }

  /** The response to a Check; null when there is no such service. */
  check(request: Buffer): Buffer | null {
    const service = decodeService(request);
    return service !== null && this.services.has(service) ? encode(this.statusOf(service)) : null;
  }

  /** Tells `watcher` how it is now, and whenever that changes, until the returned function is called. Null when too many watch. */
  watch(request: Buffer, watcher: Watcher): (() => void) | null {
    if (this.watchers.size >= MAX_WATCHERS) return null;
    const service = decodeService(request);
    let told = 0;
    const look = () => {
      const status = this.statusOf(service);
      if (status !== told) watcher(encode(status));
      told = status;
    };
    look();
    this.watchers.add(look);
    this.timer ??= setInterval(() => this.tell(), TICK_MS).unref();
    return () => {
      this.watchers.delete(look);
      if (this.watchers.size > 0) return;
      clearInterval(this.timer);
      this.timer = undefined;
    };
  }

  /** Tells all who watch at once what has changed. */
  tell(): void {
    for (const look of this.watchers) look();
  }

  private statusOf(service: string | null): number {
    if (service === null || !this.services.has(service)) return SERVICE_UNKNOWN;
    return this.isServing() ? SERVING : NOT_SERVING;
  }
}

function encode(status: number): Buffer {
  return Buffer.from([0x08, status]); // field 1, a varint
}

/** Null when the bytes are no HealthCheckRequest. */
function decodeService(bytes: Buffer): string | null {
  const reader = new WireReader();
  let service = "";
  reader.open(bytes, 0, bytes.length);
  while (reader.next()) {
    if (reader.tag === SERVICE) service = reader.text();
  }
  return reader.isMalformed ? null : service;
}
