// The whole body of /metrics in any of its formats: traffic, what is derived from it, and the collector's own metrics.

import type { TrafficFamilies } from "./families.ts";
import type { Format, TextFormat } from "./format.ts";
import { FamiliesFromText } from "./from-text.ts";
import { toOpenMetrics } from "./open-metrics.ts";
import { ProtobufTraffic } from "./protobuf.ts";
import { TextTraffic } from "./text.ts";

/** What a body shows besides traffic. */
export interface Rest {
  /** What is derived from the counts, in text format 0.0.4, in pieces that end at line ends. */
  readonly measures: Iterable<string>;
  /** What is passed on of the proxies' own stats, in pieces that end at line ends; null when nothing is. */
  readonly proxyStats: { readonly render: (format: TextFormat) => Iterable<string> } | null;
  /** The collector's own metrics, in text format 0.0.4. */
  readonly self: () => Promise<string>;
}

type Pieces = AsyncGenerator<Buffer | string>;

export class Exposition {
  private readonly text: Readonly<Record<TextFormat, TextTraffic>>;
  private readonly protobuf: ProtobufTraffic;

  constructor(traffic: TrafficFamilies) {
    this.text = { text: new TextTraffic(traffic, "text"), openmetrics: new TextTraffic(traffic, "openmetrics") };
    this.protobuf = new ProtobufTraffic(traffic);
  }

  /** In pieces, each valid until the one after the next is asked for; an empty one only says that others may have their turn. */
  render(format: Format, rest: Rest): Pieces {
    switch (format) {
      case "text":
        return this.renderText(rest);
      case "openmetrics":
        return this.renderOpenMetrics(rest);
      case "protobuf":
        return this.renderProtobuf(rest);
    }
  }

  private async *renderText({ measures, proxyStats, self }: Rest): Pieces {
    yield* this.text.text.render();
    yield* measures;
    if (proxyStats !== null) yield* proxyStats.render("text");
    yield await self();
  }

  private async *renderOpenMetrics({ measures, proxyStats, self }: Rest): Pieces {
    yield* this.text.openmetrics.render();
    for (const piece of measures) yield piece === "" ? piece : toOpenMetrics(piece);
    if (proxyStats !== null) yield* proxyStats.render("openmetrics");
    yield `${toOpenMetrics(await self())}# EOF\n`;
  }

  private async *renderProtobuf({ measures, proxyStats, self }: Rest): Pieces {
    yield* this.protobuf.render();
    const families = new FamiliesFromText();
    for (const pieces of [measures, proxyStats?.render("text") ?? []]) {
      for (const piece of pieces) {
        yield* families.add(piece);
        yield "";
      }
    }
    yield* families.add(await self());
    yield* families.end();
  }
}
