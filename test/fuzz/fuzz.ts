// A run of the fuzz: mutants of the corpus, one after the other, each drawn from the seed and its own number alone.

import assert from "node:assert/strict";
import type { Random } from "../fixtures/als-random.ts";
import { pick } from "../fixtures/als-random.ts";
import { random } from "../property/random.ts";
import { heldBy } from "./bounds.ts";
import { fuzzCorpus } from "./corpus.ts";
import { fillingMessage } from "./filling.ts";
import { mutate } from "./mutate.ts";
import { type Fill, MessagePath } from "./path.ts";

const GOLDEN = 0x9e3779b1;
/** One in so many goes in as it is: the state behind must not be one of injured messages alone. */
const WHOLE = 10;
/** Of a message that failed; all of it is made again by its seed and number. */
const SHOWN_BYTES = 4096;
/** More than there is room for. */
const FILLING_PROXIES = 250;
const MAX_FILLING = 10_000;

/** A message that the collector did not take as it should, with all that it takes to see that again. */
export class FuzzFailure extends Error {
  constructor(seed: number, index: number, message: Buffer, cause: unknown) {
    const again = `npm run fuzz:collector -- ${seed} ${index + 1}`;
    const hex = message.toString("hex", 0, SHOWN_BYTES);
    super(`seed ${seed}, message ${index}: ${String(cause)}\nagain: ${again}\n${message.length} bytes: ${hex}`, {
      cause,
    });
  }
}

export class Fuzz {
  readonly path = new MessagePath();
  readonly corpus: readonly Buffer[];
  /** Messages sent. */
  count = 0;
  /** Bytes sent. */
  bytes = 0;

  constructor(readonly seed: number) {
    this.corpus = fuzzCorpus(random(seed));
  }

  /**
   * Fills every table to its bound, as a mesh does in days: from then on nothing that is held may grow. First the corpus as it is, so that
   * its names have places and not only the overflow. Throws AssertionError when some table is not full.
   */
  async fill(): Promise<readonly Fill[]> {
    for (const message of this.corpus) this.path.receive(message);
    let numbers = 0;
    while (this.path.hasRoomForLabelSets && numbers < MAX_FILLING) {
      this.path.receive(fillingMessage(numbers, numbers % FILLING_PROXIES));
      numbers++;
    }
    // The same again by other proxies: label sets are full, cells are not.
    for (let round = 1; round < FILLING_PROXIES && this.path.fills().some(hasRoom); round++) {
      for (let number = 0; number < numbers; number++) {
        this.path.receive(fillingMessage(number, (number + round) % FILLING_PROXIES));
      }
    }
    await this.path.account();
    const fills = this.path.fills();
    assert.deepEqual(fills.filter(hasRoom), [], "every table is full");
    return fills;
  }

  /** Sends so many messages more; `onSent` is told each one and how long it took, ms. Throws FuzzFailure. */
  async run(count: number, onSent: (message: Buffer, ms: number) => void = () => {}): Promise<void> {
    for (const end = this.count + count; this.count < end; this.count++) {
      const draw = random(this.seed + Math.imul(this.count + 1, GOLDEN));
      const message = this.message(draw);
      const startMs = performance.now();
      try {
        await this.path.send(draw, message);
      } catch (error: unknown) {
        throw new FuzzFailure(this.seed, this.count, message, error);
      }
      this.bytes += message.length;
      onSent(message, performance.now() - startMs);
    }
  }

  /** All that may hold something from one message to the next. */
  get parts() {
    const { receiver, store, graph, analyser } = this.path;
    return { receiver, store, graph, analyser };
  }

  /** Throws AssertionError when something is held beyond its bound, or a prototype is no more as it was. */
  check(): void {
    this.path.tick();
    assert.deepEqual(heldBy(this.parts).beyond, [], "nothing is held beyond its bound");
    assert.deepEqual(prototypeKeys(), PROTOTYPE_KEYS, "no prototype was written to");
  }

  private message(draw: Random): Buffer {
    const base = pick(draw, this.corpus);
    return draw() < 1 / WHOLE ? base : mutate(draw, base, this.corpus);
  }
}

function hasRoom({ size, bound }: Fill): boolean {
  return size < bound;
}

/** What the prototypes have that all objects, arrays, maps, texts and functions share. */
function prototypeKeys(): string[] {
  const prototypes = { Object, Array, Map, Set, String, Function, Buffer };
  return Object.entries(prototypes).flatMap(([name, type]) =>
    Reflect.ownKeys(type.prototype as object).map((key) => `${name}.${String(key)}`),
  );
}

const PROTOTYPE_KEYS = prototypeKeys();
