// Evidence: what one entry and its proxy tell of who is at the ends of a call, and what an analyzer makes of it.

import type { CommonEntry } from "../proto/als-entry.ts";
import type { Sender } from "../resolver/attribution.ts";
import { Label, REPORTER_DESTINATION } from "../vocabulary.ts";
import type { Party, Role, UnknownReason } from "./side.ts";

export interface Evidence {
  /** Those that `entry` was read from. */
  readonly bytes: Buffer;
  readonly entry: CommonEntry;
  readonly sender: Sender;
  readonly role: Role;
  /** Values in the order of LABELS; the reporter is one of Istio's. */
  readonly labels: readonly string[];
  /** Whether the filter counted them: then they know what metadata said, whether the entry holds it or not. */
  readonly isObserved: boolean;
  /** The host that the downstream asked for: authority, SNI, or the address that it connected to. */
  readonly asked: string;
  /** Whether the call may have reached a server. */
  readonly hasUpstream: boolean;
}

/** The proxy itself, and its two peers. */
export type End = "self" | "downstream" | "upstream";

/** Who it is; or why this analyzer does not know; null when it has nothing to say. */
export type Answer = Party | UnknownReason | null;

/** One link of the identity chain. Answers are frozen, and shared by all who ask. */
export type PartyAnalyzer = { readonly [end in End]: (evidence: Evidence) => Answer };

/** Whether the proxy is the server of its reports. */
export function isInbound({ labels }: Evidence): boolean {
  return labels[Label.Reporter] === REPORTER_DESTINATION;
}
