// k8s-mesh: Kubernetes objects, by the addresses of an entry. docs/metrics.md has which address stands for which end.

import type { AddressLookup, Identity } from "../identity/lookup.ts";
import type { SocketAddress } from "../proto/address.ts";
import type { CalledHosts } from "./called.ts";
import { type Answer, type Evidence, isInbound, type PartyAnalyzer } from "./evidence.ts";
import type { CalledHost } from "./host.ts";
import type { Party } from "./side.ts";

/** Addresses that no other than the own network's hosts have: the objects should know them. */
const PRIVATE =
  /^(?:10\.|192\.168\.|172\.(?:1[6-9]|2\d|3[01])\.|100\.(?:6[4-9]|[7-9]\d|1[01]\d|12[0-7])\.|f[cd][0-9a-f]{2}:)/i;

export class K8sMesh implements PartyAnalyzer {
  private readonly parties = new WeakMap<Identity, Party>();

  constructor(
    private readonly lookup: AddressLookup,
    private readonly hosts: CalledHosts,
    private readonly domain: string,
  ) {}

  /** The pod of the node id, which tells pods of one address apart; else who has the proxy's own address; else the entry's. */
  readonly self = (evidence: Evidence): Answer => {
    const { bytes, entry, sender, role } = evidence;
    const { name, namespace } = sender.subject.end;
    const pod = name === "" || namespace === "" ? null : this.lookup.findPod(namespace, name);
    if (pod !== null) return this.partyOf(pod);
    for (const address of sender.addresses) {
      const identity = this.lookup.find(address, 0);
      if (identity !== null) return this.partyOf(identity);
    }
    if (role === "waypoint") return null; // the entry's are its services'
    const isServer = role === "router" || isInbound(evidence);
    return this.at(isServer ? entry.downstreamLocal.read(bytes) : readClient(evidence));
  };

  /** The other end of the downstream connection, and not what an HTTP header names as its client. */
  readonly downstream = (evidence: Evidence): Answer => this.at(readClient(evidence));

  /**
   * The server that was reached; else the service that cluster or metadata name; else what the client had connected to, which at a
   * gateway is the gateway; else the host that it asked for.
   */
  readonly upstream = (evidence: Evidence): Answer => {
    const { bytes, entry, role } = evidence;
    const reached = this.at(entry.upstreamRemote.read(bytes));
    if (isParty(reached)) return reached;
    const configured = this.atHost(this.hosts.configured(evidence));
    if (configured !== null) return configured;
    const connected = role === "router" ? null : this.at(entry.downstreamLocal.read(bytes));
    if (isParty(connected)) return connected;
    return this.atHost(this.hosts.asked(evidence)) ?? reached;
  };

  private at(address: SocketAddress | null): Answer {
    if (address === null) return null;
    const identity = this.lookup.find(address.ip, address.port);
    if (identity !== null) return this.partyOf(identity);
    if (this.lookup.isShared(address.ip)) return "address_shared";
    return PRIVATE.test(address.ip) ? "address_not_known" : null;
  }

  private atHost(called: CalledHost | null): Party | null {
    if (called === null) return null;
    const { host, name, namespace } = called;
    const identity = this.lookup.findHost(name === "" ? host : `${name}.${namespace}.svc.${this.domain}`);
    return identity === null ? null : this.partyOf(identity);
  }

  /** The lookup named it by the rules. A service's own address is none of its instances'. */
  private partyOf(identity: Identity): Party {
    const known = this.parties.get(identity);
    if (known !== undefined) return known;
    const { kind, service, instance, namespace, workload } = identity;
    const party: Party = Object.freeze({
      service,
      namespace: namespace || null,
      workload: workload || null,
      instance: kind === "service" ? null : instance || null,
      analyzer: "k8s-mesh",
    });
    this.parties.set(identity, party);
    return party;
  }
}

/** A client's port is any that was free: whatever listens on it elsewhere on the same node is another. */
function readClient({ bytes, entry }: Evidence): SocketAddress | null {
  const { downstreamDirectRemote, downstreamRemote } = entry;
  const address = (downstreamDirectRemote.isPresent ? downstreamDirectRemote : downstreamRemote).read(bytes);
  return address === null ? null : { ip: address.ip, port: 0 };
}

function isParty(answer: Answer): answer is Party {
  return typeof answer === "object" && answer !== null;
}
