// What the applications themselves counted: the truth that the mesh's telemetry is compared with.

/** How many answers with that code `destination` gave to `source`. Names are those of workloads. */
export interface EdgeCount {
  readonly source: string;
  readonly destination: string;
  readonly code: number;
  readonly requests: number;
}

export class Tally {
  private readonly edges = new Map<string, { source: string; destination: string; code: number; requests: number }>();
  private exchangeHeaders = 0;

  /** Called as the answer is given, before its first byte leaves. */
  count(source: string, destination: string, code: number): void {
    const key = `${source} ${destination} ${code}`;
    const edge = this.edges.get(key);
    if (edge) edge.requests++;
    else this.edges.set(key, { source, destination, code, requests: 1 });
  }

  /** Takes note of exchange headers that reached an application: there must be none. */
  inspect(headers: NodeJS.Dict<string | string[]>): void {
    for (const name of Object.keys(headers)) {
      if (name.startsWith("x-envoy-peer-metadata")) this.exchangeHeaders++;
    }
  }

  /** Every edge so far, ordered by source, destination and code. */
  counts(): EdgeCount[] {
    const edges = [...this.edges.values()].map((edge) => ({ ...edge }));
    return edges.sort(
      (a, b) => a.source.localeCompare(b.source) || a.destination.localeCompare(b.destination) || a.code - b.code,
    );
  }

  /** How many exchange headers applications have seen, in requests and in answers. */
  exchangeHeadersSeen(): number {
    return this.exchangeHeaders;
  }
}
