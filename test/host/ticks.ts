// The timers of a VM: one per root context. Envoy arms it anew when the period is set, and after each tick with the period then in
// force. https://github.com/proxy-wasm/proxy-wasm-cpp-host/blob/main/src/wasm.cc (setTimerPeriod, timerReady)

const NS_PER_MS = 1_000_000n;

export class Ticks {
  /** Milliseconds between two ticks of each root that asked for them; 0: it wants no more. */
  readonly periodMs = new Map<number, number>();
  private readonly dueNs = new Map<number, bigint>();

  set(rootId: number, milliseconds: number, nowNs: bigint): void {
    this.periodMs.set(rootId, milliseconds);
    this.arm(rootId, nowNs);
  }

  /** Waits a whole period from now on, unless the period is 0. */
  arm(rootId: number, nowNs: bigint): void {
    const period = this.periodMs.get(rootId) ?? 0;
    if (period > 0) this.dueNs.set(rootId, nowNs + BigInt(period) * NS_PER_MS);
    else this.dueNs.delete(rootId);
  }

  /** The root whose tick comes next, not after `untilNs`. */
  next(untilNs: bigint): { readonly rootId: number; readonly atNs: bigint } | undefined {
    let first: { rootId: number; atNs: bigint } | undefined;
    for (const [rootId, atNs] of this.dueNs) {
      if (atNs <= untilNs && (first === undefined || atNs < first.atNs)) first = { rootId, atNs };
    }
    return first;
  }
}
