// address: what stands in the entry itself. A client's server by cluster, metadata, authority, SNI or the address that it asked for; a
// caller only by its certificate, since anyone can write the rest.

import type { NameRules } from "../identity/lookup.ts";
import type { Subject } from "../identity/names.ts";
import { subjectOfSpiffeId } from "../resolver/subject.ts";
import type { CalledHosts } from "./called.ts";
import { type Answer, type Evidence, isInbound, type PartyAnalyzer } from "./evidence.ts";
import { type CalledHost, hostOfInboundCluster, isPlainCluster } from "./host.ts";
import { partyOf } from "./party.ts";
import type { Party } from "./side.ts";

export class Address implements PartyAnalyzer {
  private readonly parties = new WeakMap<CalledHost, Party>();

  constructor(
    private readonly hosts: CalledHosts,
    private readonly rules: NameRules,
  ) {}

  /** A server by its cluster's host, either by its certificate. */
  readonly self = (evidence: Evidence): Answer => {
    const { entry, sender } = evidence;
    const isServer = isInbound(evidence);
    const host = isServer ? hostOfInboundCluster(entry.upstreamCluster) : "";
    const called = this.hosts.parse(host, sender.subject.end.namespace);
    if (called !== null) return this.hostParty(called);
    return this.spiffeParty(isServer ? entry.downstreamLocalUriSan : entry.upstreamLocalUriSan);
  };

  readonly downstream = ({ entry }: Evidence): Answer => this.spiffeParty(entry.downstreamPeerUriSan);

  readonly upstream = (evidence: Evidence): Answer => {
    const { upstreamCluster, upstreamPeerUriSan } = evidence.entry;
    const called = this.hosts.configured(evidence) ?? this.hosts.asked(evidence);
    if (called !== null) return this.hostParty(called);
    if (isPlainCluster(upstreamCluster)) return plainParty(upstreamCluster);
    return this.spiffeParty(upstreamPeerUriSan);
  };

  /** One of Kubernetes is named by the rule, as its pods are; any other is called as it is. */
  private hostParty(called: CalledHost): Party {
    const known = this.parties.get(called);
    if (known !== undefined) return known;
    const { host, name, namespace } = called;
    const service = { name, namespace, labels: NO_LABELS };
    const subject: Subject = { end: service, workload: "", canonicalService: name, service, serviceEntry: null };
    const party = name === "" ? plainParty(host) : partyOf(subject, this.rules, "address");
    this.parties.set(called, party);
    return party;
  }

  /** Several are joined by commas, which no SPIFFE id contains. */
  private spiffeParty(sans: string): Party | null {
    const subject = subjectOfSpiffeId(sans.split(",", 1)[0] as string);
    return subject === null ? null : partyOf(subject, this.rules, "address");
  }
}

const NO_LABELS: ReadonlyMap<string, string> = new Map();

function plainParty(service: string): Party {
  return Object.freeze({ service, namespace: null, workload: null, instance: null, analyzer: "address" });
}
