// A header map as Envoy gives it to wasm. Values are latin1 text, one character per byte on the wire.

export type HeaderPairs = readonly (readonly [name: string, value: string])[];

export class HeaderMap {
  private entries: [string, string][];

  constructor(pairs: HeaderPairs) {
    this.entries = pairs.map(([name, value]) => [name.toLowerCase(), value]);
  }

  get size(): number {
    return this.entries.length;
  }

  pairs(): [string, string][] {
    return this.entries.map(([name, value]) => [name, value]);
  }

  /** The first value only: what `proxy_get_header_map_value` answers for a header that is there twice. */
  get(name: string): string | undefined {
    const lower = name.toLowerCase();
    for (const entry of this.entries) if (entry[0] === lower) return entry[1];
    return undefined;
  }

  all(name: string): string[] {
    const lower = name.toLowerCase();
    return this.entries.filter((entry) => entry[0] === lower).map((entry) => entry[1]);
  }

  /** Replaces every value of the name by one. */
  replace(name: string, value: string): void {
    this.remove(name);
    this.add(name, value);
  }

  add(name: string, value: string): void {
    this.entries.push([name.toLowerCase(), value]);
  }

  /** Removes every value of the name. */
  remove(name: string): void {
    const lower = name.toLowerCase();
    if (this.get(lower) !== undefined) this.entries = this.entries.filter((entry) => entry[0] !== lower);
  }
}
