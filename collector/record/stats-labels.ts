// Labels of a proxy's stats -> packed label sets, remembered: the same few label texts come every few seconds, from all proxies.
//
// All text here is latin1: one character per byte. Label values then are their UTF-8 bytes, which is just how a packed label set
// holds them (series/key.ts), and nothing is decoded.

import { isTcpLabel, LABELS, MAX_VALUE_BYTES } from "../vocabulary.ts";

const LABEL_INDEX = new Map<string, number>(LABELS.map((label, index) => [label, index]));

/** What is held of all texts and keys together, in characters. */
const MAX_CHARACTERS = 128 * 2 ** 20;
/** What a text costs besides its characters. */
const ENTRY_COST = 200;

/** One label text. Null keys: it has no label of ours, so it is another writer's. */
export interface LabelSet {
  /** Packed: all LABELS. */
  readonly key: string | null;
  /** Packed: those that TCP metrics carry. */
  readonly tcpKey: string | null;
}

/** Bounded: when the young half is full, the old half is forgotten. */
export class LabelTexts<Set extends LabelSet = LabelSet> {
  private young = new Map<string, Set>();
  private old = new Map<string, Set>();
  private room: number;

  /** `read`: gives the label set of a text that is not known. */
  constructor(
    private readonly read: (text: string) => Set,
    private readonly maxCharacters = MAX_CHARACTERS,
  ) {
    this.room = maxCharacters / 2;
  }

  /** The same object for the same text, as long as it is remembered. */
  find(text: string): Set {
    const known = this.young.get(text);
    if (known !== undefined) return known; // fast
    const set = this.old.get(text) ?? this.read(text);
    this.room -= text.length + (set.key?.length ?? 0) + ENTRY_COST;
    if (this.room < 0) {
      this.old = this.young;
      this.young = new Map();
      this.room = this.maxCharacters / 2;
    }
    this.young.set(copyOf(text), set);
    return set;
  }
}

/** Gathers the labels of one text. A label of ours that is missing was removed by the configuration: its value is empty. */
export class LabelPacker {
  private readonly values: string[] = new Array(LABELS.length).fill("");
  private isOurs = false;

  add(name: string, value: string): void {
    const index = LABEL_INDEX.get(name);
    if (index === undefined) return;
    this.values[index] = value;
    this.isOurs = true;
  }

  /** Without keys when none was ours, or one is too long. */
  pack(): LabelSet {
    if (!this.isOurs || this.values.some((value) => value.length > MAX_VALUE_BYTES)) return foreign();
    return {
      key: pack(this.values),
      tcpKey: pack(this.values.map((value, label) => (isTcpLabel(label) ? value : ""))),
    };
  }
}

function foreign(): LabelSet {
  return { key: null, tcpKey: null };
}

function pack(values: readonly string[]): string {
  return values.map((value) => String.fromCharCode(value.length) + value).join("");
}

/** Of `reporter="source",source_workload="web",...`: what LabelTexts read with. */
export function readLabelText(text: string): LabelSet {
  const labels = new LabelPacker();
  for (const label of eachLabel(text)) {
    if (!label) return foreign();
    labels.add(label.name, label.value);
  }
  return labels.pack();
}

/** Each label of `a="1",b="2"`: its name, its value with the escapes resolved, and where it starts and ends; null where that breaks off. */
function* eachLabel(text: string): Generator<{ name: string; value: string; from: number; to: number } | null> {
  let at = 0;
  while (at < text.length) {
    const from = at;
    const equals = text.indexOf('="', at);
    if (equals < 0) return yield null;
    const name = text.slice(at, equals);
    at = equals + 2;
    let value = "";
    let copied = at;
    for (; text[at] !== '"'; at++) {
      if (at >= text.length) return yield null;
      if (text[at] !== "\\") continue;
      value += text.slice(copied, at) + (text[at + 1] === "n" ? "\n" : (text[at + 1] ?? ""));
      at++;
      copied = at + 1;
    }
    value += text.slice(copied, at);
    at++;
    yield { name, value, from, to: at };
    if (at < text.length && text[at] !== ",") return yield null;
    at++;
  }
}

/** slow: `le` somewhere else than at the end. Its value, and the text without it; null where there is none. */
export function splitLe(text: string): { le: string; rest: string } | null {
  for (const label of eachLabel(text)) {
    if (!label) return null;
    if (label.name !== "le") continue;
    const before = text.slice(0, label.from);
    const after = text.slice(label.to + 1); // past the comma
    return { le: label.value, rest: after === "" ? before.replace(/,$/, "") : before + after };
  }
  return null;
}

/** The value of a label of that name; null where there is none. */
export function labelValue(text: string, name: string): string | null {
  for (const label of eachLabel(text)) {
    if (label?.name === name) return label.value;
  }
  return null;
}

/** The text without a longer one that it may be a slice of, which would stay in memory with it. */
function copyOf(text: string): string {
  return Buffer.from(text, "latin1").toString("latin1");
}
