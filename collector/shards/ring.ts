// Ring: memory that the main thread and one other share, for messages on their way. Nothing is copied twice, handed over or collected:
// a buffer that changes threads costs both of them, each time, and all typed arrays of both are slower from the first time on.
//
// The main thread fills slot after slot with batches, round and round; the other one takes them in the same order, and counts them.

const SLOTS = 8;
/** Of one slot: messages that find room in so much go together. */
export const SLOT_BYTES = 256 * 1024;

/** What both sides hold. */
export interface RingMemory {
  readonly slots: SharedArrayBuffer;
  readonly state: Int32Array<SharedArrayBuffer>;
}

/** Indexes into `state`. Batches that were taken in, modulo 2^32. */
const TAKEN = 0;
/** Who wants to know when there is room; and so many batches must have been taken in then. */
const AWAITED = 1;
const TARGET = 2;
const STATE_WIDTH = 3;

/** Values of AWAITED: nobody; the main thread, which does nothing else; the main thread, by a message. */
const NOBODY = 0;
const WAITING = 1;
const TO_BE_TOLD = 2;

export function ringMemory(): RingMemory {
  return {
    slots: new SharedArrayBuffer(SLOTS * SLOT_BYTES),
    state: new Int32Array(new SharedArrayBuffer(STATE_WIDTH * Int32Array.BYTES_PER_ELEMENT)),
  };
}

/** The main thread's side. */
export class RingWriter {
  private begun = 0;

  constructor(private readonly memory: RingMemory) {}

  /** Bytes for the next batch, with the number of their slot; null when all slots are under way. */
  begin(): { readonly slot: number; readonly bytes: Buffer } | null {
    const underWay = (this.begun - Atomics.load(this.memory.state, TAKEN)) | 0;
    if (underWay >= SLOTS) return null;
    const slot = (this.begun >>> 0) % SLOTS;
    this.begun = (this.begun + 1) | 0;
    return { slot, bytes: slotOf(this.memory, slot) };
  }

  /**
   * Waits until half of the slots are free: to be woken for each of them would cost the other thread more than it gains. False when that
   * takes longer: then `RingReader.taken` will say true, once, when it has come to pass.
   */
  waitForRoom(ms: number): boolean {
    const { state } = this.memory;
    Atomics.store(state, TARGET, (this.begun - SLOTS / 2) | 0);
    Atomics.store(state, AWAITED, WAITING);
    if (hasRoom(state)) Atomics.store(state, AWAITED, NOBODY);
    else Atomics.wait(state, AWAITED, WAITING, ms);
    return Atomics.compareExchange(state, AWAITED, WAITING, TO_BE_TOLD) === NOBODY;
  }
}

/** The other thread's. */
export class RingReader {
  constructor(private readonly memory: RingMemory) {}

  slot(slot: number): Buffer {
    return slotOf(this.memory, slot);
  }

  /** The next batch was taken in: nobody may look at its bytes any more. Whether the main thread is to be told that there is room. */
  taken(): boolean {
    const { state } = this.memory;
    Atomics.add(state, TAKEN, 1);
    if (Atomics.load(state, AWAITED) === NOBODY || !hasRoom(state)) return false; // fast
    const who = Atomics.exchange(state, AWAITED, NOBODY);
    if (who === WAITING) Atomics.notify(state, AWAITED);
    return who === TO_BE_TOLD;
  }
}

function hasRoom(state: Int32Array): boolean {
  return ((Atomics.load(state, TAKEN) - Atomics.load(state, TARGET)) | 0) >= 0;
}

function slotOf({ slots }: RingMemory, slot: number): Buffer {
  return Buffer.from(slots, slot * SLOT_BYTES, SLOT_BYTES);
}
