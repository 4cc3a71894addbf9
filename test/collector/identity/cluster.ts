// Kubernetes objects in few words, for tests.

import { AddressIndex, type Identity, type NameRules } from "../../../collector/identity/lookup.ts";
import { DEFAULT_INSTANCE_RULE, DEFAULT_SERVICE_RULE, nameRule } from "../../../collector/identity/names.ts";
import { addObject, noObjects } from "../../../collector/identity/objects.ts";

type Fields = { readonly [key: string]: unknown };

export const RULES: NameRules = {
  service: nameRule(DEFAULT_SERVICE_RULE),
  instance: nameRule(DEFAULT_INSTANCE_RULE),
  domain: "cluster.local",
};

export function pod(
  name: string,
  addresses: readonly string[],
  { labels = {}, spec = {}, ...status }: Fields = {},
): Fields {
  const podIPs = addresses.map((ip) => ({ ip }));
  return {
    apiVersion: "v1",
    kind: "Pod",
    metadata: { name, namespace: "default", labels, creationTimestamp: "2026-01-01T00:00:00Z" },
    spec,
    status: { phase: "Running", podIP: addresses[0], podIPs, hostIP: "192.168.1.10", ...status },
  };
}

export function service(name: string, clusterIP: string, namespace = "default"): Fields {
  return { apiVersion: "v1", kind: "Service", metadata: { name, namespace }, spec: { clusterIP } };
}

export function slice(of: string, addresses: readonly string[], namespace = "default"): Fields {
  return {
    apiVersion: "discovery.k8s.io/v1",
    kind: "EndpointSlice",
    metadata: { name: `${of}-${addresses[0]}`, namespace, labels: { "kubernetes.io/service-name": of } },
    endpoints: addresses.map((address) => ({ addresses: [address], conditions: { ready: true } })),
  };
}

export function node(...addresses: readonly string[]): Fields {
  return {
    apiVersion: "v1",
    kind: "Node",
    metadata: { name: `node-${addresses[0]}` },
    status: { addresses: addresses.map((address) => ({ address, type: "InternalIP" })) },
  };
}

export function serviceEntry(name: string, spec: Fields): Fields {
  return {
    apiVersion: "networking.istio.io/v1",
    kind: "ServiceEntry",
    metadata: { name, namespace: "mesh" },
    spec: { hosts: [`${name}.example.com`], ...spec },
  };
}

export function workloadEntry(name: string, address: string, labels: Fields): Fields {
  return {
    apiVersion: "networking.istio.io/v1",
    kind: "WorkloadEntry",
    metadata: { name, namespace: "mesh" },
    spec: { address, labels },
  };
}

export function indexOf(objects: readonly Fields[], rules = RULES): AddressIndex {
  const held = noObjects();
  for (const object of objects) {
    if (!addObject(held, object)) throw new Error(`an object that is not read: ${JSON.stringify(object)}`);
  }
  return new AddressIndex(held, rules);
}

/** Who answers, in one word: `pod a`, `service db`, or null. */
export function who(identity: Identity | null): string | null {
  if (identity === null) return null;
  return `${identity.kind} ${identity.pod || identity.canonicalService}`;
}
