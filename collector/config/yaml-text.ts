// The YAML of one file: its value, and where in the text each part of it stands.

import { isMap, isNode, isScalar, LineCounter, parseDocument, visit } from "yaml";
import type { Path } from "./sections.ts";

/** What is wrong with the text itself. */
interface TextFault {
  readonly offset: number;
  readonly text: string;
}

export class YamlText {
  private readonly lines = new LineCounter();
  private readonly document;

  constructor(text: string) {
    this.document = parseDocument(text, { lineCounter: this.lines });
  }

  /** Without any, the value is what stands there. */
  *faults(): Generator<TextFault> {
    for (const { message, pos } of this.document.errors) {
      // The library's message goes on with the place, which will stand in front, and a drawing of it.
      yield { offset: pos[0], text: message.split(" at line ")[0] as string };
    }
    yield* this.aliases();
  }

  value(): unknown {
    return this.document.toJS();
  }

  /** Where the value of a path begins; 0 when there is none. */
  offsetOf(path: Path): number {
    const node = this.nodeAt(path);
    return (isNode(node) && node.range?.[0]) || 0;
  }

  /** Where a key of a section stands; 0 when there is none. */
  offsetOfKey(path: Path, key: string): number {
    const parent = this.nodeAt(path);
    const pair = isMap(parent) ? parent.items.find((item) => isScalar(item.key) && item.key.value === key) : undefined;
    return (isScalar(pair?.key) && pair.key.range?.[0]) || 0;
  }

  /** `LINE:COLUMN`, both from 1. */
  placeOf(offset: number): string {
    const { line, col } = this.lines.linePos(offset);
    return `${line}:${col}`;
  }

  /** Nothing here needs them, and they can name nothing, name themselves, or make a few lines into gigabytes. */
  private aliases(): TextFault[] {
    const found: TextFault[] = [];
    visit(this.document, {
      Alias: (_key, { source, range }) => {
        found.push({ offset: range?.[0] ?? 0, text: `found the alias *${source}, expected a value` });
      },
    });
    return found;
  }

  private nodeAt(path: Path): unknown {
    return path.length === 0 ? this.document.contents : this.document.getIn(path, true);
  }
}
