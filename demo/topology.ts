// The shape of the local mesh, as data: bookinfo's workloads, the database behind one of them, their services and their addresses.

import { createHash } from "node:crypto";

export const CLUSTER_ID = "local";
export const TRUST_DOMAIN = "cluster.local";
export const SERVICE_PORT = 9080;
export const DATABASE_PORT = 6379;

/**
 * The ports that each workload's own address carries, as in an Istio pod; the gateway's public port is picked. `database`: on its own
 * address the database, on its caller's the outbound listener that leads there.
 */
export const PORTS = {
  app: SERVICE_PORT,
  database: DATABASE_PORT,
  admin: 15000,
  outbound: 15001,
  inbound: 15006,
} as const;

type Role = "sidecar" | "router";

export interface Workload {
  /** "reviews-v1": its Deployment. */
  readonly name: string;
  /** "reviews": label `app`, canonical name, and the service that it stands behind. */
  readonly app: string;
  /** "v1"; "" for the gateway, which names none. */
  readonly version: string;
  readonly namespace: string;
  readonly serviceAccount: string;
  readonly role: Role;
  /** Last part of its loopback address: 13 -> 127.0.x.13. */
  readonly host: number;
}

function sidecar(app: string, version: string, host: number): Workload {
  const name = `${app}-${version}`;
  return { name, app, version, namespace: "default", serviceAccount: `bookinfo-${app}`, role: "sidecar", host };
}

export const GATEWAY: Workload = {
  name: "ingress-gateway",
  app: "ingress-gateway",
  version: "",
  namespace: "ingress",
  serviceAccount: "ingress-gateway",
  role: "router",
  host: 10,
};

/** The one workload that calls the database. */
export const RATINGS: Workload = sidecar("ratings", "v1", 16);
/** Where ratings come from: over TCP, and no HTTP. */
export const DATABASE: Workload = sidecar("ratings-db", "v1", 17);

/** Every workload behind a proxy, in the order in which a request meets them. */
export const WORKLOADS: readonly Workload[] = [
  GATEWAY,
  sidecar("productpage", "v1", 11),
  sidecar("details", "v1", 12),
  sidecar("reviews", "v1", 13),
  sidecar("reviews", "v2", 14),
  sidecar("reviews", "v3", 15),
  RATINGS,
  DATABASE,
];

export interface Service {
  /** "reviews": its short name, which callers write in the host header. */
  readonly name: string;
  readonly namespace: string;
  readonly workloads: readonly Workload[];
}

/** The services that can be called by HTTP: one per app, so `reviews` has three workloads behind it. */
export const SERVICES: readonly Service[] = ["productpage", "details", "reviews", "ratings"].map((name) => {
  const workloads = WORKLOADS.filter((workload) => workload.app === name);
  return { name, namespace: "default", workloads };
});

export const DATABASE_SERVICE: Service = { name: DATABASE.app, namespace: DATABASE.namespace, workloads: [DATABASE] };

/** "reviews.default.svc.cluster.local". */
export function serviceHost(service: Service): string {
  return `${service.name}.${service.namespace}.svc.${TRUST_DOMAIN}`;
}

/** "spiffe://cluster.local/ns/default/sa/bookinfo-reviews". */
export function spiffeId(workload: Workload): string {
  return `spiffe://${TRUST_DOMAIN}/ns/${workload.namespace}/sa/${workload.serviceAccount}`;
}

/** "reviews-v1-7f4d9c1b2a-x": a pod-like name, the same in every run. */
export function podName(workload: Workload): string {
  const hash = createHash("sha256").update(workload.name).digest("hex");
  return `${workload.name}-${hash.slice(0, 10)}-${hash.slice(10, 15)}`;
}

/** "sidecar~127.0.7.13~reviews-v1-7f4d9c1b2a-81c0e.default~default.svc.cluster.local", as Istio names its proxies. */
export function nodeId(workload: Workload, address: string): string {
  const { role, namespace } = workload;
  return `${role}~${address}~${podName(workload)}.${namespace}~${namespace}.svc.${TRUST_DOMAIN}`;
}

/** The workload's own address in the subnet "127.0.7" of this run: "127.0.7.13". */
export function addressOf(workload: Workload, subnet: string): string {
  return `${subnet}.${workload.host}`;
}
