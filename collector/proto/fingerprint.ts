// Fingerprint: the parts of a message that decide what is made of it, one behind the other in words of 32 bits. They are gathered, hashed and
// compared four bytes a step: bytes one by one, or native calls for each part, cost three times as much.

/** In front of each part: which it is, and how long. */
const HEAD_WORDS = 1;
/** Bits of a head that hold the length. */
const LENGTH_BITS = 16;
/** The length of a number: it has one word, and no bytes. */
const NUMBER_LENGTH = 0xffff;
const NO_BYTES = Buffer.alloc(0);

export class Fingerprint {
  /** Those of the message read last stand in [0, length). */
  readonly words: Int32Array;
  length = 0;
  /** False when the parts did not fit: nothing can be compared with it. */
  isWhole = true;
  private bytes: Buffer = NO_BYTES;
  private view: DataView = new DataView(NO_BYTES.buffer);

  /** Holds `maxWords` at most. */
  constructor(maxWords: number) {
    this.words = new Int32Array(maxWords);
  }

  /** Starts over, on parts of `bytes`. */
  open(bytes: Buffer): void {
    this.length = 0;
    this.isWhole = true;
    if (bytes === this.bytes) return; // fast: many entries come in one message
    this.bytes = bytes;
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  }

  /** Adds bytes[start, stop). */
  add(part: number, start: number, stop: number): void {
    const { words, view, bytes } = this;
    const count = stop - start;
    let at = this.length;
    if (count >= NUMBER_LENGTH || at + HEAD_WORDS + ((count + 3) >> 2) > words.length) {
      this.isWhole = false;
      return;
    }
    words[at++] = (part << LENGTH_BITS) | count;
    let from = start;
    for (const last = stop - 4; from <= last; from += 4) words[at++] = view.getInt32(from, true);
    if (from < stop) {
      let tail = 0;
      for (; from < stop; from++) tail = (tail << 8) | (bytes[from] as number);
      words[at++] = tail;
    }
    this.length = at;
  }

  /** Adds a whole number of 32 bits. */
  addNumber(part: number, value: number): void {
    const { words } = this;
    if (this.length + HEAD_WORDS + 1 > words.length) {
      this.isWhole = false;
      return;
    }
    words[this.length++] = (part << LENGTH_BITS) | NUMBER_LENGTH;
    words[this.length++] = value;
  }

  /** Need not be strong, since the words are compared. In four lanes, so that no multiplication waits for the one before. */
  hash(): number {
    const { words, length } = this;
    let a = length;
    let b = 0;
    let c = 0;
    let d = 0;
    let at = 0;
    for (; at + 4 <= length; at += 4) {
      a = mixed(a, words[at] as number);
      b = mixed(b, words[at + 1] as number);
      c = mixed(c, words[at + 2] as number);
      d = mixed(d, words[at + 3] as number);
    }
    for (; at < length; at++) a = mixed(a, words[at] as number);
    return mixed(mixed(mixed(a, b), c), d);
  }
}

function mixed(hash: number, word: number): number {
  const product = Math.imul(hash ^ word, 0x9e3779b1);
  return product ^ (product >>> 15);
}
