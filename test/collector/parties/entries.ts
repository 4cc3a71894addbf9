// Entries of proxies in a small cluster, and in a word who their ends are.

import { Analyser } from "../../../collector/analysis/analyse.ts";
import type { Party, Side } from "../../../collector/analysis/side.ts";
import { ANALYZERS, type Analyzer } from "../../../collector/identity/chain.ts";
import { decodeAlsMessage } from "../../../collector/proto/als.ts";
import { identifySender, type Sender } from "../../../collector/resolver/attribution.ts";
import {
  bytesState,
  encodeEntry,
  encodeMessage,
  encodeTcpEntry,
  type Fields,
  structFields,
} from "../../fixtures/als.ts";
import { encodeFlatNode } from "../../fixtures/flat-node.ts";
import { indexOf, node, pod, RULES, service, serviceEntry, slice } from "../identity/cluster.ts";

const CANONICAL_NAME = "service.istio.io/canonical-name";
export const WEB = "10.0.0.1";
export const REVIEWS = "10.0.0.2";
export const GATEWAY = "10.0.0.3";
export const WAYPOINT = "10.0.0.4";
export const STRANGER = "10.9.9.9";
export const NODE = "192.168.1.10";
export const REVIEWS_SERVICE = "10.96.0.2";
export const INTERNET = "93.184.216.34";

export const LABELS = { [CANONICAL_NAME]: "reviews", app: "short", version: "v3" };
export const LOOKUP = indexOf([
  pod("web-1", [WEB, "fd00::1"], { labels: { app: "web" } }),
  pod("reviews-1", [REVIEWS], { labels: LABELS }),
  pod("gateway-1", [GATEWAY], { labels: { app: "gateway" } }),
  pod("waypoint-1", [WAYPOINT], { labels: { app: "waypoint" } }),
  pod("agent-1", [NODE], { labels: { app: "agent" }, spec: { hostNetwork: true, containers: [] }, hostIP: NODE }),
  node(NODE),
  service("reviews", REVIEWS_SERVICE),
  slice("reviews", [REVIEWS]),
  serviceEntry("payments", { addresses: ["198.51.100.0/24"] }),
]);

export function identify(id: string, metadata: Fields = {}, logName = ""): Sender {
  const identifier = decodeAlsMessage(
    encodeMessage({ identifier: { node: { id, metadata: structFields(metadata) }, logName } }),
  )?.identifier;
  if (!identifier) throw new Error("the test's own identifier is broken");
  return identifySender(identifier);
}

export const at = (address: string, portValue = 80) => ({ socketAddress: { address, portValue } });
export const internal = (endpointId: string) => ({ envoyInternalAddress: { serverListenerName: "x", endpointId } });
export const uri = (id: string) => ({ subjectAltName: [{ uri: id }] });

export interface Options {
  readonly chain?: readonly Analyzer[];
  readonly authority?: string;
  readonly code?: number;
}

export type Analyse = (common: Fields, sender: Sender, options?: Options) => Side[];

function analyserOf({ chain = ANALYZERS }: Options): Analyser {
  return new Analyser(Date.now, { analyzers: chain, lookup: LOOKUP, rules: RULES });
}

export const http: Analyse = (commonProperties, sender, options = {}) => {
  const { authority = "", code = 200 } = options;
  const request = { requestMethod: 1, path: "/", authority };
  const bytes = encodeEntry({ commonProperties, request, response: { responseCode: { value: code } } });
  return analyserOf(options).analyseHttp(bytes, 0, bytes.length, sender);
};

export const tcp: Analyse = (common, sender, options = {}) => {
  const bytes = encodeTcpEntry({ commonProperties: { accessLogType: 3, ...common } });
  return analyserOf(options).analyseTcp(bytes, 0, bytes.length, sender);
};

/** `server: web.default -> reviews.default`, in which `(reason)` stands for who is not known. */
export function told(sides: readonly Side[]): string[] {
  const name = ({ service, reason }: Party) => service ?? `(${reason})`;
  return sides.map(({ detectPoint, source, destination }) => `${detectPoint}: ${name(source)} -> ${name(destination)}`);
}

export const K8S: Options = { chain: ["k8s-mesh"] };
export const MX: Options = { chain: ["mx-mesh"] };
export const ADDRESS: Options = { chain: ["address"] };
export const SIDECAR = identify("sidecar~10.7.7.7~x.y~y.svc.cluster.local");
export const ROUTER = identify("router~10.7.7.7~x.y~y.svc.cluster.local");
export const PLAIN = identify("envoy");

export const FACTS = {
  NAME: "reviews-1",
  NAMESPACE: "default",
  WORKLOAD_NAME: "reviews-1",
  LABELS,
  CLUSTER_ID: "east",
};
export const SHORT = {
  name: "reviews-1",
  namespace: "default",
  service: "reviews",
  app: "short",
  version: "v3",
  workload: "reviews-1",
  cluster: "east",
};
export const FLAT = bytesState(
  encodeFlatNode({ name: "reviews-1", namespace: "default", workloadName: "reviews-1", labels: LABELS }),
);
export const BY_METADATA = {
  service: "reviews.default",
  namespace: "default",
  workload: "reviews-1",
  instance: "reviews-1.default",
  analyzer: "mx-mesh",
};
