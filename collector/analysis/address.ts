// address: what stands in the entry itself. A client's server by cluster, metadata, authority, SNI or the address that it asked for; a
// caller only by its certificate, since anyone can write the rest.

import type { NameRules } from "../identity/lookup.ts";
import type { Subject } from "../identity/names.ts";
import { subjectOfSpiffeId } from "../resolver/subject.ts";
import { askedHost, configuredHost } from "./called.ts";
import { type Answer, type Evidence, isInbound, type PartyAnalyzer } from "./evidence.ts";
import { type CalledHost, hostOfInboundCluster, isPlainCluster, parseHost } from "./host.ts";
import { partyOf } from "./party.ts";
import type { Party } from "./side.ts";

export class Address implements PartyAnalyzer {
  constructor(private readonly rules: NameRules) {}

  /** A server by its cluster's host, either by its certificate. */
  readonly self = (evidence: Evidence): Answer => {
    const { entry, sender } = evidence;
    const isServer = isInbound(evidence);
    const host = isServer ? hostOfInboundCluster(entry.upstreamCluster) : "";
    const called = host === "" ? null : parseHost(host, sender.subject.end.namespace, this.rules.domain);
    if (called !== null) return this.hostParty(called);
    return this.spiffeParty(isServer ? entry.downstreamLocalUriSan : entry.upstreamLocalUriSan);
  };

  readonly downstream = ({ entry }: Evidence): Answer => this.spiffeParty(entry.downstreamPeerUriSan);

  readonly upstream = (evidence: Evidence): Answer => {
    const { domain } = this.rules;
    const { upstreamCluster, upstreamPeerUriSan } = evidence.entry;
    const called = configuredHost(evidence, domain) ?? askedHost(evidence, domain);
    if (called !== null) return this.hostParty(called);
    if (isPlainCluster(upstreamCluster)) return plainParty(upstreamCluster);
    return this.spiffeParty(upstreamPeerUriSan);
  };

  /** One of Kubernetes is named by the rule, as its pods are; any other is called as it is. */
  private hostParty({ host, name, namespace }: CalledHost): Party {
    if (name === "") return plainParty(host);
    const service = { name, namespace, labels: NO_LABELS };
    const subject: Subject = { end: service, workload: "", canonicalService: name, service, serviceEntry: null };
    return partyOf(subject, this.rules, "address");
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
