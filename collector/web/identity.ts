// GET /api/v1/identity?address=10.244.0.5: who is behind an address by the Kubernetes objects that are known. It answers why an end of a call
// is named as it is, or is not.

import { isIP } from "node:net";
import { quote } from "../error.ts";
import type { AddressLookup } from "../identity/lookup.ts";
import { type Answer, failure } from "./api.ts";

const MAX_PORT = 65_535;

/** `port` counts on addresses that several share, as those of nodes; by default none. */
export function readIdentity(lookup: AddressLookup, query: URLSearchParams): Answer {
  const address = (query.get("address") ?? "").replace(/^\[(.*)\]$/, "$1");
  const port = query.get("port") ?? "0";
  if (isIP(address) === 0) {
    return failure(400, "bad_request", `address: found ${quote(address)}, expected one such as 10.244.0.5 or fd00::5`);
  }
  if (!/^\d{1,5}$/.test(port) || Number(port) > MAX_PORT) {
    return failure(400, "bad_request", `port: found ${quote(port)}, expected a number from 0 to ${MAX_PORT}`);
  }
  const identity = lookup.find(address, Number(port));
  if (identity === null) return failure(404, "not_found", `nobody is known behind ${address}`);
  const { kind, service, instance, namespace, workload, pod, canonicalService, labels, called } = identity;
  return {
    status: 200,
    body: {
      address,
      kind,
      service,
      instance,
      namespace,
      workload: workload || null,
      pod: pod || null,
      canonical_service: canonicalService || null,
      called,
      labels: Object.fromEntries(labels),
    },
  };
}
