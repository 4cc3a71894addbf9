// The host that a client called, by what its proxy was configured with and by what it asked for.

import { CATCH_ALL_CLUSTERS, Label, ROUTE_ALLOW_ANY, ROUTE_BLOCK_ALL, UNKNOWN } from "../vocabulary.ts";
import { type Evidence, isInbound } from "./evidence.ts";
import { type CalledHost, hostOfCluster, isAddress, parseHost } from "./host.ts";

/** Of a service of Kubernetes, and no host. */
const IS_NAME = /^[a-z0-9-]+$/;

/** Together at most some MiB: what is longer than a host is not kept. */
const MAX_CACHED_HOSTS = 4096;
const MAX_CACHED_LENGTH = 512;

/** The same text in the same namespace gives the same object, as long as it is remembered. */
export class CalledHosts {
  private readonly hosts = new Map<string, CalledHost | null>();

  /** `cluster.local`. */
  constructor(private readonly domain: string) {}

  /** As the cluster is named, else its metadata `istio.services` (custom tags, or what the filter counted). */
  configured(evidence: Evidence): CalledHost | null {
    const { entry, sender } = evidence;
    const { namespace } = sender.subject.end;
    const host = entry.upstreamCluster === "" ? null : this.find("cluster", entry.upstreamCluster, namespace);
    if (host !== null) return host;
    const { destinationServiceHost, destinationServiceName, destinationServiceNamespace } = entry;
    return (
      this.service(destinationServiceHost, destinationServiceName, destinationServiceNamespace || namespace) ??
      this.counted(evidence)
    );
  }

  /**
   * Authority, SNI or address; null where anybody may have chosen it: a gateway's callers do. An address alone is asked for only where
   * the cluster stands for it.
   */
  asked({ asked, role, sender, entry }: Evidence): CalledHost | null {
    if (role === "router") return null;
    const host = this.parse(asked, sender.subject.end.namespace);
    const isAny = host !== null && isCatchAll(entry.upstreamCluster, entry.routeName) && isAddress(host.host);
    return isAny ? null : host;
  }

  /** Null for what is no host. One without a dot is of `namespace`. */
  parse(text: string, namespace: string): CalledHost | null {
    return text === "" ? null : this.find("host", text, namespace);
  }

  /** The labels of an observation, where they tell of the upstream and not of the proxy. */
  private counted(evidence: Evidence): CalledHost | null {
    const { labels, isObserved, sender } = evidence;
    if (!isObserved || isInbound(evidence)) return null;
    const name = known(labels[Label.DestinationServiceName]);
    if (CATCH_ALL_CLUSTERS.includes(name)) return null;
    const namespace = known(labels[Label.DestinationServiceNamespace]) || sender.subject.end.namespace;
    return this.service(known(labels[Label.DestinationService]), name, namespace);
  }

  /** Metadata may give the namespace of a host that does not tell. Istio calls a ServiceEntry's by its host throughout. */
  private service(host: string, name: string, namespace: string): CalledHost | null {
    const called = this.parse(host || name, namespace);
    if (called === null || called.name !== "" || namespace === "" || !IS_NAME.test(name)) return called;
    return { host: called.host, name, namespace };
  }

  private find(kind: "cluster" | "host", text: string, namespace: string): CalledHost | null {
    const key = `${kind} ${namespace} ${text}`;
    const known = this.hosts.get(key);
    if (known !== undefined) return known; // fast: there are fewer of them than of calls
    const host = parseHost(kind === "host" ? text : hostOfCluster(text), namespace, this.domain);
    if (key.length > MAX_CACHED_LENGTH) return host;
    if (this.hosts.size >= MAX_CACHED_HOSTS) this.hosts.clear();
    this.hosts.set(key, host);
    return host;
  }
}

function isCatchAll(cluster: string, route: string): boolean {
  return CATCH_ALL_CLUSTERS.includes(cluster) || route === ROUTE_ALLOW_ANY || route === ROUTE_BLOCK_ALL;
}

function known(value: string | undefined): string {
  return value === undefined || value === UNKNOWN ? "" : value;
}
