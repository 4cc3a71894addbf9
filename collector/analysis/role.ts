// The role of a proxy, as its node id begins: `sidecar~10.0.0.1~web.default~...`.

import { ROLES, type Role } from "./side.ts";

/** What Istio called a gateway before it was `router`. */
const INGRESS = "ingress";

export function roleOf(nodeId: string): Role {
  const [first = ""] = nodeId.split("~", 1);
  if (first === nodeId) return "none";
  return first === INGRESS ? "router" : (ROLES.find((role) => role === first) ?? "none");
}
