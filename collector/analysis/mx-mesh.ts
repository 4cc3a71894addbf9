// mx-mesh: what the proxies tell of themselves: node metadata, exchanged peers in filter state, endpoint metadata of the control plane.

import type { NameRules } from "../identity/lookup.ts";
import type { Subject } from "../identity/names.ts";
import { BytesCache } from "../proto/bytes-cache.ts";
import type { FilterState } from "../proto/map-entry.ts";
import type { Sender } from "../resolver/attribution.ts";
import {
  inNamespace,
  isNamedSubject,
  subjectOfDestinationLabels,
  subjectOfEndpoint,
  subjectOfFlatNode,
  subjectOfSourceLabels,
  subjectOfStruct,
} from "../resolver/subject.ts";
import { Label, REPORTER_DESTINATION, REPORTER_SOURCE, spiffeNamespace } from "../vocabulary.ts";
import type { Answer, Evidence, PartyAnalyzer } from "./evidence.ts";
import { partyOf } from "./party.ts";
import type { Party } from "./side.ts";

/** What a description says; or why it says nothing. */
type Told = { readonly subject: Subject; readonly party: Party } | "peer_malformed" | "peer_not_named";

/** Of each kind at most 16 MiB of keys. */
const MAX_CACHED_PEERS = 4096;
const MAX_CACHED_BYTES = 4096;

export class MxMesh implements PartyAnalyzer {
  private readonly flatNodes = new BytesCache<Told>(MAX_CACHED_PEERS, MAX_CACHED_BYTES);
  private readonly structs = new BytesCache<Told>(MAX_CACHED_PEERS, MAX_CACHED_BYTES);
  private readonly endpoints = new Map<string, Told>();
  private readonly selves = new WeakMap<Sender, Told>();

  constructor(private readonly rules: NameRules) {}

  /** Node metadata; else what the filter counted the proxy as. */
  readonly self = ({ sender, labels, isObserved }: Evidence): Answer => {
    let told = this.selves.get(sender);
    if (told === undefined) {
      told = this.tell(sender.subject);
      this.selves.set(sender, told);
    }
    if (typeof told === "string" && isObserved) told = this.tell(ownSubject(labels));
    return typeof told === "string" ? "node_not_named" : told.party;
  };

  /** The caller, as it told. */
  readonly downstream = ({ bytes, entry, labels, isObserved }: Evidence): Answer => {
    const told = this.exchanged(bytes, entry.wasmDownstreamPeer, entry.downstreamPeer);
    if (isTold(told)) return this.certified(told, entry.downstreamPeerUriSan);
    const isCounted = labels[Label.Reporter] !== REPORTER_SOURCE; // else the labels' source is the proxy itself
    const counted = isObserved && isCounted ? this.tell(subjectOfSourceLabels(labels)) : null;
    return isTold(counted) ? counted.party : told;
  };

  /** The server, as it told; else as the control plane describes the endpoint. */
  readonly upstream = ({ bytes, entry, labels, isObserved }: Evidence): Answer => {
    const isCounted = labels[Label.Reporter] !== REPORTER_DESTINATION;
    const principal = isCounted ? labels[Label.DestinationPrincipal] : "";
    const told = this.exchanged(bytes, entry.wasmUpstreamPeer, entry.upstreamPeer);
    if (isTold(told)) return this.certified(told, principal);
    const described = this.endpoint(entry.upstreamWorkload);
    if (isTold(described)) return this.certified(described, principal);
    const counted = isObserved && isCounted ? this.tell(subjectOfDestinationLabels(labels)) : null;
    return isTold(counted) ? counted.party : told;
  };

  /** Of two generations of keys the first that names the peer. */
  private exchanged(bytes: Buffer, wasmState: FilterState, istioState: FilterState): Told | null {
    const first = this.state(bytes, wasmState);
    if (isTold(first)) return first;
    return this.state(bytes, istioState) ?? first;
  }

  private state(bytes: Buffer, { kind, start, stop }: FilterState): Told | null {
    if (kind === "none") return null;
    if (kind === "bytes") return this.flatNodes.resolve(bytes, start, stop, this.tellFlatNode);
    return this.structs.resolve(bytes, start, stop, this.tellStruct);
  }

  private readonly tellFlatNode = (bytes: Buffer, start: number, stop: number): Told =>
    this.tell(subjectOfFlatNode(bytes, start, stop));

  private readonly tellStruct = (bytes: Buffer, start: number, stop: number): Told =>
    this.tell(subjectOfStruct(bytes, start, stop));

  private endpoint(text: string): Told | null {
    if (text === "") return null;
    const known = this.endpoints.get(text);
    if (known !== undefined) return known;
    const told = this.tell(subjectOfEndpoint(text));
    if (text.length > MAX_CACHED_BYTES) return told;
    if (this.endpoints.size >= MAX_CACHED_PEERS) this.endpoints.clear();
    this.endpoints.set(text, told);
    return told;
  }

  private tell(subject: Subject | null): Told {
    if (subject === null) return "peer_malformed";
    return isNamedSubject(subject) ? { subject, party: partyOf(subject, this.rules, "mx-mesh") } : "peer_not_named";
  }

  /** Where metadata contradicts the certificate, the certificate's namespace counts, as it does in labels. */
  private certified({ subject, party }: Exclude<Told, string>, principal: string | undefined): Party {
    const namespace = spiffeNamespace(principal ?? "");
    if (namespace === "" || namespace === subject.end.namespace) return party;
    return partyOf(inNamespace(subject, namespace), this.rules, "mx-mesh");
  }
}

/** The proxy's own end of the labels; a waypoint's name only its peers. */
function ownSubject(labels: readonly string[]): Subject | null {
  const reporter = labels[Label.Reporter];
  if (reporter === REPORTER_SOURCE) return subjectOfSourceLabels(labels);
  return reporter === REPORTER_DESTINATION ? subjectOfDestinationLabels(labels) : null;
}

function isTold(told: Told | null): told is Exclude<Told, string> {
  return typeof told === "object" && told !== null;
}
