// Who the ends of a call are: the identity chain (`identity.chain`), asked for each end by itself; the first answer wins.
//
// An answer depends on nothing but this, so that whoever remembers it knows by what:
//
//   always                    the sender, the label set and whether the filter counted it, hasUpstream, the four peers in filter state
//                             (their bytes), the custom tag upstream_workload, the first URI of the client's certificate
//   once k8s-mesh was asked   the four addresses, what `address` reads, and AddressLookup.version
//   of an unknown end, and
//   once address was asked    cluster, `asked`, the custom tags destination_service_*, the first URIs of the certificates
//
// So a party whose `analyzer` is the chain's first, mx-mesh, depends on the first line alone. Parties are frozen, and shared by many sides.

import { ANALYZERS, type Analyzer } from "../identity/chain.ts";
import { AddressIndex, type AddressLookup, type NameRules } from "../identity/lookup.ts";
import { DEFAULT_INSTANCE_RULE, DEFAULT_SERVICE_RULE, nameRule } from "../identity/names.ts";
import { noObjects } from "../identity/objects.ts";
import type { Sender } from "../resolver/attribution.ts";
import { Address } from "./address.ts";
import { CalledHosts } from "./called.ts";
import type { End, Evidence, PartyAnalyzer } from "./evidence.ts";
import { K8sMesh } from "./k8s-mesh.ts";
import { MxMesh } from "./mx-mesh.ts";
import { type Party, UNKNOWN_REASONS, type UnknownReason } from "./side.ts";

/** What names the ends of calls. */
export interface Identities {
  readonly analyzers: readonly Analyzer[];
  /** Answers for k8s-mesh. */
  readonly lookup: AddressLookup;
  readonly rules: NameRules;
}

/** The default configuration, without Kubernetes objects. */
export function defaultIdentities(): Identities {
  const rules = {
    service: nameRule(DEFAULT_SERVICE_RULE),
    instance: nameRule(DEFAULT_INSTANCE_RULE),
    domain: "cluster.local",
  };
  return { analyzers: ANALYZERS, lookup: new AddressIndex(noObjects(), rules), rules };
}

export class PartyResolver {
  private readonly chain: readonly PartyAnalyzer[];

  constructor(private readonly identities: Identities) {
    const hosts = new CalledHosts(identities.rules.domain);
    this.chain = identities.analyzers.map((analyzer) => analyzerOf(analyzer, identities, hosts));
  }

  /** Of a reason that several analyzers give, and of several reasons, the first in UNKNOWN_REASONS is told. */
  resolve(end: End, evidence: Evidence): Party {
    let reason = ownReason(end, evidence);
    for (const analyzer of this.chain) {
      const answer = analyzer[end](evidence);
      if (typeof answer === "object" && answer !== null) return answer;
      if (answer !== null && rank(answer) < rank(reason)) reason = answer;
    }
    return end === "self" ? this.unknownSelf(evidence.sender, reason) : (UNKNOWN.get(reason) as Party);
  }

  /** Its pod and namespace, the node id tells all the same. */
  private unknownSelf({ subject }: Sender, reason: UnknownReason): Party {
    const { name, namespace } = subject.end;
    const instance = name === "" ? null : this.identities.rules.instance.render(subject);
    return Object.freeze({ ...unknown(reason), namespace: namespace || null, instance });
  }
}

function analyzerOf(analyzer: Analyzer, { lookup, rules }: Identities, hosts: CalledHosts): PartyAnalyzer {
  switch (analyzer) {
    case "mx-mesh":
      return new MxMesh(rules);
    case "k8s-mesh":
      return new K8sMesh(lookup, hosts, rules.domain);
    case "address":
      return new Address(hosts, rules);
  }
}

/** Why, whatever the analyzers say: what the entry lacks. */
function ownReason(end: End, { entry, hasUpstream }: Evidence): UnknownReason {
  if (end === "self") return "node_not_named";
  if (end === "upstream") return hasUpstream ? "peer_metadata_missing" : "upstream_not_reached";
  return entry.downstreamPeerUriSan === "" ? "peer_outside_mesh" : "peer_metadata_missing";
}

function rank(reason: UnknownReason): number {
  return UNKNOWN_REASONS.indexOf(reason);
}

function unknown(reason: UnknownReason): Party {
  return Object.freeze({ service: null, namespace: null, workload: null, instance: null, analyzer: null, reason });
}

const UNKNOWN: ReadonlyMap<UnknownReason, Party> = new Map(UNKNOWN_REASONS.map((reason) => [reason, unknown(reason)]));
