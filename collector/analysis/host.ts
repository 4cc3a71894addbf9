// Hosts that a client called, as cluster, metadata, authority or SNI name them.

import { isIP } from "node:net";
import { CATCH_ALL_CLUSTERS } from "../vocabulary.ts";

export interface CalledHost {
  /** In lower case, without a port; of a bare address as it was asked for: `10.0.0.7:5432`. */
  readonly host: string;
  /** Of a service of Kubernetes, else "". */
  readonly name: string;
  readonly namespace: string;
}

/** Longest name of DNS. */
const MAX_HOST_LENGTH = 253;

const HOST = /^[a-z0-9_]([a-z0-9._-]*[a-z0-9_])?$/;
/** The machine itself, whichever that is. */
const LOCAL = /^(?:localhost$|127\.\d+\.\d+\.\d+$|\[?::1\]?$)/;
const PORT = /:\d{1,5}$/;

/** `outbound|9080|v1|reviews.default.svc.cluster.local`, and `inbound-vip|...` of a waypoint. */
const OUTBOUND_CLUSTER = /^(?:outbound|inbound-vip)\|\d*\|[^|]*\|(.+)$/;
/** `inbound|9080|http|reviews.default.svc.cluster.local`; newer Istios leave the host out. */
const INBOUND_CLUSTER = /^inbound\|\d*\|[^|]*\|(.+)$/;
/** `outbound_.9080_.v1_.reviews.default.svc.cluster.local`: clusters, and the SNI, of gateways between networks. */
const DNAT_CLUSTER = /^outbound_\.\d*_\.[^_]*_\.(.+)$/;

/** What Kubernetes appends to the hosts of services of all clusters of a mesh. */
const MESH_DOMAIN = "clusterset.local";

/** Host of a cluster that Istio named; "" of any other. */
export function hostOfCluster(cluster: string): string {
  return (OUTBOUND_CLUSTER.exec(cluster) ?? DNAT_CLUSTER.exec(cluster))?.[1] ?? "";
}

export function hostOfInboundCluster(cluster: string): string {
  return INBOUND_CLUSTER.exec(cluster)?.[1] ?? "";
}

/** A name that a configuration gave to a service's cluster itself: not one of Istio's, nor one that stands for any service. */
export function isPlainCluster(cluster: string): boolean {
  return (
    cluster !== "" &&
    cluster.length <= MAX_HOST_LENGTH &&
    !cluster.includes("|") &&
    !CATCH_ALL_CLUSTERS.includes(cluster)
  );
}

/**
 * Reads `reviews.default.svc.cluster.local:9080`, `reviews.default.svc`, `api.example.com:443`, `10.0.0.7:5432`, and an SNI of Istio's.
 * One that has no dot is of `namespace`, if that is known. Null for what is no host, or only this one.
 */
export function parseHost(text: string, namespace: string, domain: string): CalledHost | null {
  const asked = (DNAT_CLUSTER.exec(text)?.[1] ?? text).toLowerCase();
  if (asked.length > MAX_HOST_LENGTH + 6) return null;
  const host = asked.replace(PORT, "").replace(/\.$/, "");
  if (LOCAL.test(host)) return null;
  if (isAddress(asked)) return { host: asked, name: "", namespace: "" };
  if (!HOST.test(host) || host.length > MAX_HOST_LENGTH) return null;
  if (!host.includes(".")) return { host, name: namespace === "" ? "" : host, namespace };
  return { host, ...serviceOf(host, domain) };
}

/** With a port or without. */
export function isAddress(host: string): boolean {
  return isBareAddress(host) || isBareAddress(host.replace(PORT, ""));
}

function isBareAddress(text: string): boolean {
  return isIP(text.replace(/^\[(.*)\]$/, "$1")) !== 0;
}

/** `reviews-0.reviews.default.svc.cluster.local`, a pod of a headless service, is of `reviews`, too. */
function serviceOf(host: string, domain: string): { name: string; namespace: string } {
  const labels = host.split(".");
  const at = labels.lastIndexOf("svc");
  const rest = labels.slice(at + 1).join(".");
  const isService = (at === 2 || at === 3) && ["", domain, MESH_DOMAIN].includes(rest);
  return isService
    ? { name: labels[at - 2] as string, namespace: labels[at - 1] as string }
    : { name: "", namespace: "" };
}
