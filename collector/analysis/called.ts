// The host that a client called, by what its proxy was configured with and by what it asked for.

import { CATCH_ALL_CLUSTERS, Label, ROUTE_ALLOW_ANY, ROUTE_BLOCK_ALL, UNKNOWN } from "../vocabulary.ts";
import { type Evidence, isInbound } from "./evidence.ts";
import { type CalledHost, hostOfCluster, isAddress, parseHost } from "./host.ts";

/** Of a service of Kubernetes, and no host. */
const IS_NAME = /^[a-z0-9-]+$/;

/** As the cluster is named, else its metadata `istio.services` (custom tags, or what the filter counted). */
export function configuredHost(evidence: Evidence, domain: string): CalledHost | null {
  const { entry, sender } = evidence;
  const host = hostOfCluster(entry.upstreamCluster);
  if (host !== "") return parseHost(host, sender.subject.end.namespace, domain);
  const { destinationServiceHost, destinationServiceName, destinationServiceNamespace } = entry;
  return (
    serviceHost(evidence, destinationServiceHost, destinationServiceName, destinationServiceNamespace, domain) ??
    countedHost(evidence, domain)
  );
}

/**
 * Authority, SNI or address; null where anybody may have chosen it: a gateway's callers do. An address alone is asked for only where the
 * cluster stands for it.
 */
export function askedHost({ asked, role, sender, entry }: Evidence, domain: string): CalledHost | null {
  if (role === "router" || asked === "") return null;
  const called = parseHost(asked, sender.subject.end.namespace, domain);
  return called !== null && isAddress(called.host) && isCatchAll(entry.upstreamCluster, entry.routeName)
    ? null
    : called;
}

/** The labels of an observation, where they tell of the upstream and not of the proxy. */
function countedHost(evidence: Evidence, domain: string): CalledHost | null {
  const { labels, isObserved } = evidence;
  if (!isObserved || isInbound(evidence)) return null;
  const name = known(labels[Label.DestinationServiceName]);
  if (CATCH_ALL_CLUSTERS.includes(name)) return null;
  const namespace = known(labels[Label.DestinationServiceNamespace]);
  return serviceHost(evidence, known(labels[Label.DestinationService]), name, namespace, domain);
}

/** Metadata may give the namespace of a host that does not tell. Istio calls a ServiceEntry's by its host throughout. */
function serviceHost(
  { sender }: Evidence,
  host: string,
  name: string,
  namespace: string,
  domain: string,
): CalledHost | null {
  const called = parseHost(host || name, namespace || sender.subject.end.namespace, domain);
  if (called === null || called.name !== "" || namespace === "" || !IS_NAME.test(name)) return called;
  return { host: called.host, name, namespace };
}

function isCatchAll(cluster: string, route: string): boolean {
  return CATCH_ALL_CLUSTERS.includes(cluster) || route === ROUTE_ALLOW_ANY || route === ROUTE_BLOCK_ALL;
}

function known(value: string | undefined): string {
  return value === undefined || value === UNKNOWN ? "" : value;
}
