// `metadata_exchange.tcp`: to which servers a TCP client's proxy says who it is, and how long it waits for an answer.

import { matches } from "../wildcard.ts";
import { Section } from "./reading.ts";

/** To whom metadata is sent. */
export enum Send {
  /** Peers of which it is known that they understand. */
  Known,
  /** All, save those outside the mesh. */
  Always,
  Never,
}

const WORDS: readonly string[] = ["known", "always", "never"];

const MAX_PATTERNS = 64;

const DEFAULT_TIMEOUT_MS: u64 = 1000;
const MIN_TIMEOUT_MS: u64 = 100;
const MAX_TIMEOUT_MS: u64 = 60000;

@final
export class TcpExchangeConfig {
  send: Send = Send.Known;
  /** Names of clusters whose servers understand; `*` stands for any text. */
  clusters: string[] = [];
  /** How long a connection waits for its peer before it is reported without, and for the rest of a prefix. */
  timeoutMs: u64 = DEFAULT_TIMEOUT_MS;
  /** Our own metadata as it is sent, made when first needed (tcp/prefix.ts); empty when there is none to send. */
  ownPrefix: StaticArray<u8> | null = null;

  read(section: Section): void {
    this.send = section.choice("send", WORDS, Send.Known);
    this.readClusters(section);
    this.timeoutMs = section.durationMs("timeout", DEFAULT_TIMEOUT_MS);
    if (this.timeoutMs >= MIN_TIMEOUT_MS && this.timeoutMs <= MAX_TIMEOUT_MS) return;
    section.complain(
      "timeout",
      `a duration from ${MIN_TIMEOUT_MS}ms to ${MAX_TIMEOUT_MS / 1000}s`,
      section.field("timeout")!,
    );
    this.timeoutMs = DEFAULT_TIMEOUT_MS;
  }

  namesCluster(name: string): bool {
    for (let i = 0; i < this.clusters.length; i++) {
      if (matches(this.clusters[i], name)) return true;
    }
    return false;
  }

  private readClusters(section: Section): void {
    const patterns = section.texts("clusters");
    if (patterns === null) return;
    if (patterns.length <= MAX_PATTERNS) this.clusters = patterns;
    else section.complain("clusters", `at most ${MAX_PATTERNS} names`, section.field("clusters")!);
  }
}
