// The mesh whose proxies the load generator plays: always the same for a seed.

import { randomNumbers } from "../../host/random.ts";

const DOMAINS = ["cart", "geo", "mail", "order", "pay", "price", "promo", "shop", "stock", "user"];
const ROLES = ["api", "web", "store", "worker", "sync"];
const VERSIONS = ["v1", "v2"];
const ZONES = ["a", "b", "c", "d", "e"];
const PODS_PER_WORKLOAD = 2;
/** Paths as a service's clients write them; each `#` becomes a digit that changes from entry to entry. */
const PATHS: readonly Endpoint[] = [
  { method: 1, path: "/{role}/v1/{domain}s?page=##&size=20" },
  { method: 1, path: "/{role}/v1/{domain}s/#######" },
  { method: 3, path: "/{role}/v1/{domain}s/#######/items" },
  { method: 1, path: "/{role}/internal/{domain}/accounts/########/history" },
];

export const CLUSTER = "Kubernetes";
/** Letters and digits of pod names. */
const ALPHABET = "bcdfghjklmnpqrstvwxz2456789";

export interface Endpoint {
  /** Number of envoy.config.core.v3.RequestMethod. */
  readonly method: number;
  readonly path: string;
}

interface Service {
  /** `cart-api`. */
  readonly name: string;
  readonly namespace: string;
  readonly host: string;
  readonly principal: string;
  readonly endpoints: readonly Endpoint[];
}

/** A deployment: a service's version in a zone. */
export interface Workload {
  readonly service: Service;
  readonly name: string;
  readonly version: string;
  readonly pods: readonly Pod[];
}

export interface Pod {
  readonly name: string;
  readonly ip: string;
}

/** 50 services with 200 endpoints and 500 workloads, of 1,000 pods. */
export function makeMesh(seed: number): readonly Workload[] {
  const random = randomNumbers(seed);
  const services = DOMAINS.flatMap((domain) => ROLES.map((role) => makeService(domain, role)));
  let pods = 0;
  const makePod = (workload: string): Pod => {
    const serial = pods++;
    const replicaSet = letters(random, 9);
    return { name: `${workload}-${replicaSet}-${letters(random, 5)}`, ip: `10.244.${serial >> 8}.${serial & 255}` };
  };
  return services.flatMap((service) =>
    VERSIONS.flatMap((version) =>
      ZONES.map((zone) => {
        const name = `${service.name}-${version}-${zone}`;
        return { service, name, version, pods: Array.from({ length: PODS_PER_WORKLOAD }, () => makePod(name)) };
      }),
    ),
  );
}

function makeService(domain: string, role: string): Service {
  const name = `${domain}-${role}`;
  return {
    name,
    namespace: domain,
    host: `${name}.${domain}.svc.cluster.local`,
    principal: `spiffe://cluster.local/ns/${domain}/sa/${name}`,
    endpoints: PATHS.map(({ method, path }) => ({
      method,
      path: path.replace("{role}", role).replace("{domain}", domain),
    })),
  };
}

function letters(random: (bound: number) => number, count: number): string {
  return Array.from({ length: count }, () => ALPHABET[random(ALPHABET.length)]).join("");
}
