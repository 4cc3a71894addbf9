// Histories: what happens to a mesh and its collector, as plain data, so that one can be run again, printed, and cut shorter.

import type { LogWay } from "../../collector/record/record.ts";
import type { Mark } from "../../collector/series/key.ts";

/** What an entry names: the process life (and the connection in it), or for connections the stream alone, or neither. */
export type Names = "life" | "stream" | "nothing";

/** How a proxy tells of its traffic. */
export interface Telling {
  /** Has the filter, which keeps stats. */
  readonly keepsStats: boolean;
  /** Its stats are read. */
  readonly isScraped: boolean;
  /** Its stats come to the metrics service as it flushes them, over so many streams, with counters in that form; null: they do not. */
  readonly streams: { readonly sinks: number; readonly areDeltas: boolean } | null;
  /** What the entries of its access loggers name; null where it has none of that way. */
  readonly names: Readonly<Record<LogWay, Names | null>>;
}

/** What the collector has room for. */
export interface Room {
  readonly proxies: number;
  readonly labelSets: number;
  readonly cells: number;
  readonly connections: number;
  /** How long a label set is shown that does not grow, and as long after it that it may be let go of; 0: for ever. */
  readonly expireAfterMs: number;
}

/** How an entry reaches the collector; null: it is lost. */
export interface Delivery {
  readonly delayMs: number;
  /** Entries of connections may come twice. */
  readonly isTwice: boolean;
  /** Names a start that is far too large, as while Envoy restarts hot. */
  readonly isFuture: boolean;
  /** Names no life, whatever the others of its logger do. */
  readonly isBare: boolean;
  /** What its label set is marked with where it names no life. */
  readonly mark: Mark | null;
}

/** How the entries of one moment reach the collector. */
export type Deliveries = Readonly<Record<LogWay, Delivery | null>>;

/** Numbers of proxies, label sets and connections are taken modulo what there is, so that a history stays one when it is cut. */
export type Action =
  | {
      readonly do: "request";
      readonly proxy: number;
      readonly label: number;
      readonly durationMs: number;
      readonly requestBytes: number;
      readonly responseBytes: number;
      readonly log: Deliveries;
    }
  | { readonly do: "open"; readonly proxy: number; readonly label: number; readonly log: Deliveries }
  | {
      readonly do: "pass";
      readonly proxy: number;
      readonly connection: number;
      readonly sent: number;
      readonly received: number;
      /** What comes from now on has other labels. */
      readonly isLate: boolean;
      readonly isEnd: boolean;
      readonly log: Deliveries;
    }
  /** Histograms are shown as they are now; and streamed, over each sink so much later, in two parts if not in one, or to nobody. */
  | {
      readonly do: "flush";
      readonly proxy: number;
      readonly delayMs: readonly number[];
      readonly isSplit: boolean;
      readonly isLost: boolean;
    }
  /** Stats are read now, and are taken in later, after those read before; again so much later, if not null. */
  | {
      readonly do: "scrape";
      readonly proxy: number;
      readonly delayMs: number;
      readonly againMs: number | null;
      readonly isFuture: boolean;
    }
  /** The wasm VM is replaced: counters and histograms begin anew. */
  | { readonly do: "replace_vm"; readonly proxy: number }
  /** `POST /reset_counters`: histograms stay. */
  | { readonly do: "reset_counters"; readonly proxy: number }
  /** The process ends and another begins, whose clock is so much ahead; in good order what it held is told and read first. */
  | { readonly do: "restart"; readonly proxy: number; readonly clockMs: number; readonly inOrder: boolean }
  | { readonly do: "wait"; readonly ms: number }
  /** The collector's clock is set forward. */
  | { readonly do: "set_clock"; readonly ms: number }
  | { readonly do: "retire" }
  /** The collector's state is saved, so many pieces of it; what is left comes with the next of these. */
  | { readonly do: "save"; readonly pieces: number }
  /** The collector ends, saves all if it is not killed, and another begins after a time, which divides proxies among so many threads. */
  | {
      readonly do: "restart_collector";
      readonly isKilled: boolean;
      readonly downMs: number;
      readonly shards: number;
    };

/** How the mesh and the collector are set up. */
export interface Conditions {
  /** Label sets say of which proxy they are (`metrics.pod_labels`). */
  readonly hasPods: boolean;
  /** Not all labels are kept (`metrics.labels`). */
  readonly keepsSome: boolean;
  /** Entries that name no life may have marks. */
  readonly hasMarks: boolean;
  /** All proxies go by one node id. */
  readonly sharesId: boolean;
}

export interface History {
  readonly seed: number;
  readonly tellings: readonly Telling[];
  readonly room: Room;
  readonly conditions: Conditions;
  readonly actions: readonly Action[];
}

/** How long superseded lives wait, and proxies are silent before they make room. Nothing is under way for longer. */
export const RETIRE_AFTER_MS = 600_000;

/** An entry as it should come. */
export const IN_ORDER: Delivery = { delayMs: 0, isTwice: false, isFuture: false, isBare: false, mark: null };
