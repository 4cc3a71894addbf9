// What is wrong with one file, each fault with its place in the text: `FILE:LINE:COLUMN: PATH: found X, expected Y`.

import type { Path } from "./sections.ts";
import type { YamlText } from "./yaml-text.ts";

export class Faults {
  private readonly found: { offset: number; text: string }[] = [];

  constructor(
    private readonly file: string,
    private readonly text: YamlText,
  ) {}

  get isEmpty(): boolean {
    return this.found.length === 0;
  }

  /** `at`: what of the file is shown to be at fault, where the path itself may not be there. */
  report(path: Path, found: string, expected: string, at: Path = path): void {
    this.add(this.text.offsetOf(at), path, `found ${found}, expected ${expected}`);
  }

  /** Of a key that should not be in the section. */
  reportKey(section: Path, key: string, found: string, expected: string): void {
    const offset = this.text.offsetOfKey(section, key);
    this.add(offset, [...section, key], `found ${found}, expected ${expected}`);
  }

  /** A fault in words of its own. */
  tell(path: Path, message: string): void {
    this.add(this.text.offsetOf(path), path, message);
  }

  /** A fault of the text, which has no path. */
  tellAt(offset: number, text: string): void {
    this.found.push({ offset, text });
  }

  /** One line each, in the order of the text. */
  inOrder(): string[] {
    const sorted = this.found.toSorted((a, b) => a.offset - b.offset);
    return sorted.map(({ offset, text }) => `${this.file}:${this.text.placeOf(offset)}: ${text}`);
  }

  private add(offset: number, path: Path, text: string): void {
    this.tellAt(offset, `${path.length === 0 ? "the file" : path.join(".")}: ${text}`);
  }
}
