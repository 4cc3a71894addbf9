// Who the ends of a call are by Kubernetes objects.
// Where a rule is one of SkyWalking's, or mends one of its, its row begins with the number that our specification of it has: 3 addresses,
// 4 metadata, 5 errors.

import { describe, expect, it } from "vitest";
import type { Sender } from "../../../collector/resolver/attribution.ts";
import type { Fields } from "../../fixtures/als.ts";
import {
  type Analyse,
  at,
  GATEWAY,
  http,
  INTERNET,
  identify,
  internal,
  K8S,
  NODE,
  PLAIN,
  REVIEWS,
  REVIEWS_SERVICE,
  ROUTER,
  SIDECAR,
  STRANGER,
  tcp,
  told,
  WAYPOINT,
  WEB,
} from "./entries.ts";

describe.each<[string, Analyse]>([
  ["HTTP", http],
  ["TCP", tcp],
])("k8s-mesh, %s", (_protocol, analyse) => {
  const inbound = { upstreamCluster: "inbound|9080||" };
  const outbound = { upstreamCluster: "outbound|9080||reviews.default.svc.cluster.local" };
  const web = { downstreamRemoteAddress: at(WEB) };
  const reviews = { upstreamRemoteAddress: at(REVIEWS) };

  it.each<[string, Sender, Fields, string[]]>([
    [
      "3.1 sidecar, inbound|: one server side, from the remote to the local address",
      SIDECAR,
      { ...inbound, ...web, downstreamLocalAddress: at(REVIEWS), upstreamRemoteAddress: at("127.0.0.1") },
      ["server: web.default -> reviews.default"],
    ],
    [
      "3.1 sidecar, inbound| with protocol and host",
      SIDECAR,
      {
        upstreamCluster: "inbound|9080|http|reviews.default.svc.cluster.local",
        ...web,
        downstreamLocalAddress: at(REVIEWS),
      },
      ["server: web.default -> reviews.default"],
    ],
    [
      "3.1 sidecar, inbound|: the direct remote address, not what X-Forwarded-For names",
      SIDECAR,
      {
        ...inbound,
        downstreamRemoteAddress: at(REVIEWS),
        downstreamDirectRemoteAddress: at(WEB),
        downstreamLocalAddress: at(REVIEWS),
      },
      ["server: web.default -> reviews.default"],
    ],
    [
      "3.1 sidecar, inbound|: an unknown remote has a reason",
      SIDECAR,
      { ...inbound, downstreamRemoteAddress: at(STRANGER), downstreamLocalAddress: at(REVIEWS) },
      ["server: (address_not_known) -> reviews.default"],
    ],
    [
      "3.1 sidecar, outbound|: one client side, from the local app to the upstream",
      SIDECAR,
      { ...outbound, ...web, ...reviews, downstreamLocalAddress: at(REVIEWS_SERVICE) },
      ["client: web.default -> reviews.default"],
    ],
    [
      "3.1 sidecar, outbound| without an upstream address: whom the cluster names",
      SIDECAR,
      { ...outbound, ...web, responseFlags: { noHealthyUpstream: true } },
      ["client: web.default -> reviews.default"],
    ],
    [
      "3.1 sidecar, PassthroughCluster: by the address that it was asked for",
      SIDECAR,
      { upstreamCluster: "PassthroughCluster", ...web, downstreamLocalAddress: at(REVIEWS_SERVICE) },
      ["client: web.default -> reviews.default"],
    ],
    [
      "3.1 sidecar, BlackHoleCluster: nobody is behind the address",
      SIDECAR,
      { upstreamCluster: "BlackHoleCluster", ...web, downstreamLocalAddress: at(INTERNET) },
      ["client: web.default -> (upstream_not_reached)"],
    ],
    [
      "3.1 sidecar, InboundPassthroughCluster",
      SIDECAR,
      { upstreamCluster: "InboundPassthroughCluster", ...web, downstreamLocalAddress: at(REVIEWS) },
      ["server: web.default -> reviews.default"],
    ],
    [
      "3.1 sidecar, a cluster of its own name",
      SIDECAR,
      { upstreamCluster: "my-filter", ...web, ...reviews },
      ["client: web.default -> reviews.default"],
    ],
    [
      "3.1 sidecar, no cluster",
      SIDECAR,
      { ...web, downstreamLocalAddress: at(REVIEWS_SERVICE) },
      ["client: web.default -> reviews.default"],
    ],
    [
      "3.1 sidecar without any address is no failure",
      SIDECAR,
      inbound,
      ["server: (peer_outside_mesh) -> (node_not_named)"],
    ],
    [
      "3.1 router: a server and a client side, itself between",
      ROUTER,
      { ...outbound, downstreamRemoteAddress: at(INTERNET), downstreamLocalAddress: at(GATEWAY), ...reviews },
      ["server: (peer_outside_mesh) -> gateway.default", "client: gateway.default -> reviews.default"],
    ],
    [
      "3.1 ingress~ is a router",
      identify("ingress~10.7.7.7~x.y~y"),
      { ...outbound, ...web, downstreamLocalAddress: at(GATEWAY), ...reviews },
      ["server: web.default -> gateway.default", "client: gateway.default -> reviews.default"],
    ],
    [
      "3.1 router without an upstream: 404 NR and redirects are its own answers",
      ROUTER,
      { ...web, downstreamLocalAddress: at(GATEWAY), responseFlags: { noRouteFound: true } },
      ["server: web.default -> gateway.default"],
    ],
    [
      "3.1 router without an upstream: 503 UH is a failed call, too, of whom the cluster names",
      ROUTER,
      { ...outbound, ...web, downstreamLocalAddress: at(GATEWAY), responseFlags: { noHealthyUpstream: true } },
      ["server: web.default -> gateway.default", "client: gateway.default -> reviews.default"],
    ],
    [
      "3.1 waypoint: as a router, by its own address instead of the local one",
      identify(`waypoint~${WAYPOINT}~x.y~y`),
      { ...web, downstreamLocalAddress: at(REVIEWS_SERVICE), ...reviews },
      ["server: web.default -> waypoint.default", "client: waypoint.default -> reviews.default"],
    ],
    [
      "3.1 waypoint: its own address from INSTANCE_IPS, a list of both families",
      identify("waypoint~10.7.7.7~x.y~y", { INSTANCE_IPS: `fd00::9, ${WAYPOINT}` }),
      { ...web, ...reviews },
      ["server: web.default -> waypoint.default", "client: waypoint.default -> reviews.default"],
    ],
    [
      "3.1 waypoint that has only IPv6",
      identify("waypoint~10.7.7.7~x.y~y", { INSTANCE_IPS: "fd00:0::1" }),
      reviews,
      ["server: (peer_outside_mesh) -> web.default", "client: web.default -> reviews.default"],
    ],
    [
      "3.1 waypoint: an internal address is valid by its endpoint id",
      identify(`waypoint~${WAYPOINT}~x.y~y`),
      { downstreamDirectRemoteAddress: internal(`${WEB}:80`), upstreamRemoteAddress: internal(`${REVIEWS}:9080`) },
      ["server: web.default -> waypoint.default", "client: waypoint.default -> reviews.default"],
    ],
    [
      "3.1 waypoint: a direct address that is none is not made up for by X-Forwarded-For",
      identify(`waypoint~${WAYPOINT}~x.y~y`),
      { ...web, downstreamDirectRemoteAddress: internal("listener"), ...reviews },
      ["server: (peer_outside_mesh) -> waypoint.default", "client: waypoint.default -> reviews.default"],
    ],
    [
      "3.1 none: by direction, as a sidecar",
      PLAIN,
      { ...web, ...reviews, upstreamCluster: "reviews" },
      ["client: web.default -> reviews.default"],
    ],
    [
      "3.1 a pipe is no address",
      SIDECAR,
      { ...inbound, downstreamRemoteAddress: { pipe: { path: "/x" } }, downstreamLocalAddress: at(REVIEWS) },
      ["server: (peer_outside_mesh) -> reviews.default"],
    ],
    [
      "3.2 a ServiceEntry's block",
      SIDECAR,
      { upstreamCluster: "x", ...web, upstreamRemoteAddress: at("198.51.100.7") },
      ["client: web.default -> payments.mesh"],
    ],
    [
      "3.2 a ServiceEntry by its host, though no DNS was asked",
      SIDECAR,
      { upstreamCluster: "outbound|443||payments.example.com", ...web, upstreamRemoteAddress: at(INTERNET) },
      ["client: web.default -> payments.mesh"],
    ],
    [
      "3.2 a node's address",
      SIDECAR,
      { ...inbound, downstreamRemoteAddress: at(NODE, 40_000), downstreamLocalAddress: at(REVIEWS) },
      ["server: (address_shared) -> reviews.default"],
    ],
    [
      "3.2 a host-network pod is known by its node id",
      identify(`sidecar~${NODE}~agent-1.default~default.svc.cluster.local`),
      { ...outbound, ...reviews },
      ["client: agent.default -> reviews.default"],
    ],
    [
      "3.2 a pod's second address",
      SIDECAR,
      { ...inbound, downstreamRemoteAddress: at("fd00::1"), downstreamLocalAddress: at(REVIEWS) },
      ["server: web.default -> reviews.default"],
    ],
    [
      "3.2 a pod that no Service selects",
      SIDECAR,
      { ...outbound, ...web, ...reviews },
      ["client: web.default -> reviews.default"],
    ],
  ])("%s", (_rule, sender, common, expected) => {
    expect(told(analyse(common, sender, K8S))).toEqual(expected);
  });

  it("3.2 names all of a pod", () => {
    expect(analyse({ ...outbound, ...web, ...reviews }, SIDECAR, K8S)[0]).toMatchObject({
      source: {
        service: "web.default",
        namespace: "default",
        workload: "web-1",
        instance: "web-1.default",
        analyzer: "k8s-mesh",
      },
      destination: { service: "reviews.default", instance: "reviews-1.default", analyzer: "k8s-mesh" },
    });
  });

  it("3.2 of a ServiceEntry the instance is the address; a Service has none", () => {
    const destination = (address: string) =>
      analyse({ upstreamCluster: "x", upstreamRemoteAddress: at(address) }, SIDECAR, K8S)[0]?.destination;
    expect(destination("198.51.100.7")).toMatchObject({ instance: "198.51.100.7", workload: null });
    expect(destination(REVIEWS_SERVICE)).toMatchObject({ service: "reviews.default", instance: null, workload: null });
  });

  it("3.1 an address in front of a gateway's is not whom it called", () => {
    const common = { upstreamCluster: "x", downstreamLocalAddress: at(GATEWAY), upstreamRemoteAddress: at(INTERNET) };
    expect(told(analyse(common, ROUTER, K8S))[1]).toBe("client: gateway.default -> (peer_metadata_missing)");
  });
});
