// Who is at the ends of an entry without an observation: what the chain's analyzers say, for each end by itself.

import { describe, expect, test } from "vitest";
import { ANALYZERS, type Analyzer } from "../../../collector/identity/chain.ts";
import { decodeAlsMessage } from "../../../collector/proto/als.ts";
import { HttpEntry, TcpEntry } from "../../../collector/proto/als-entry.ts";
import { Attribution, identifySender, type Sender } from "../../../collector/resolver/attribution.ts";
import { unpackLabels } from "../../../collector/series/key.ts";
import { LABELS } from "../../../collector/vocabulary.ts";
import {
  encodeEntry,
  encodeMessage,
  encodeTcpEntry,
  type Fields,
  structFields,
  structState,
} from "../../fixtures/als.ts";
import { indexOf, pod, service, serviceEntry, slice } from "./cluster.ts";

const WEB = "10.0.0.1";
const REVIEWS = "10.0.0.2";
const GATEWAY = "10.0.0.3";
const REVIEWS_SERVICE = "10.96.0.2";

const LOOKUP = indexOf([
  pod("web", [WEB], { labels: { app: "web", version: "v1" } }),
  pod("reviews", [REVIEWS], {
    labels: {
      app: "short",
      "app.kubernetes.io/name": "reviews",
      "service.istio.io/canonical-name": "reviews",
      "service.istio.io/canonical-revision": "v3",
    },
  }),
  pod("gateway", [GATEWAY], { labels: { app: "gateway" } }),
  service("reviews", REVIEWS_SERVICE),
  slice("reviews", [REVIEWS]),
  serviceEntry("payments", { addresses: ["198.51.100.0/24"] }),
]);

function identify(id: string, metadata: Fields, logName = ""): Sender {
  const identifier = decodeAlsMessage(
    encodeMessage({ identifier: { node: { id, metadata: structFields(metadata) }, logName } }),
  )?.identifier;
  if (!identifier) throw new Error("the test's own identifier is broken");
  return identifySender(identifier);
}

const OWN = { WORKLOAD_NAME: "own", NAMESPACE: "ns", LABELS: { app: "own" } };
const INBOUND = identify("sidecar", OWN, "inbound");
const OUTBOUND = identify("sidecar", OWN, "outbound");
const ROUTER = identify("router~10.9.9.9~a.b~c", OWN);
const unnamed = (id: string, logName: string) => identify(id, {}, logName);

const at = (address: string, portValue = 80) => ({ socketAddress: { address, portValue } });

/** Labels of an HTTP entry, and of a TCP entry: by the same rules. */
function labelsOf(commonProperties: Fields, sender: Sender, analyzers: readonly Analyzer[] = ANALYZERS) {
  const attribution = new Attribution({ analyzers, lookup: LOOKUP });
  const bytes = encodeEntry({ commonProperties, request: { authority: "asked:80" } });
  const entry = new HttpEntry();
  if (!entry.read(bytes, 0, bytes.length)) throw new Error("the test's own entry is broken");
  return named(attribution.resolve(bytes, entry, sender));
}

function tcpLabelsOf(commonProperties: Fields, sender: Sender, analyzers: readonly Analyzer[] = ANALYZERS) {
  const attribution = new Attribution({ analyzers, lookup: LOOKUP });
  const bytes = encodeTcpEntry({ commonProperties });
  const entry = new TcpEntry();
  if (!entry.read(bytes, 0, bytes.length)) throw new Error("the test's own entry is broken");
  return named(attribution.resolveTcp(bytes, entry, sender));
}

function named(labelKey: string): Record<string, string> {
  const values = unpackLabels(labelKey) ?? [];
  return Object.fromEntries(LABELS.map((label, i) => [label, values[i] as string]));
}

describe.each([
  ["HTTP", labelsOf],
  ["TCP", tcpLabelsOf],
])("%s: the peer is", (_protocol, labels) => {
  test("of a server the downstream's, with all that Kubernetes knows of it", () => {
    expect(labels({ downstreamRemoteAddress: at(WEB) }, INBOUND)).toMatchObject({
      source_workload: "web",
      source_workload_namespace: "default",
      source_canonical_service: "web",
      source_canonical_revision: "v1",
      source_app: "web",
      source_version: "v1",
      source_cluster: "unknown",
      destination_workload: "own",
    });
  });

  test("of a client the upstream's; recommended labels come before short ones", () => {
    expect(labels({ upstreamRemoteAddress: at(REVIEWS) }, OUTBOUND)).toMatchObject({
      source_workload: "own",
      destination_workload: "reviews",
      destination_workload_namespace: "default",
      destination_canonical_service: "reviews",
      destination_canonical_revision: "v3",
      destination_app: "reviews",
      destination_version: "unknown",
    });
  });

  const peer = (sender: Sender) => (sender === INBOUND ? "source_workload" : "destination_workload");
  test.each<[string, Sender, Fields, string]>([
    [
      "the direct remote's, not the one that a header names",
      INBOUND,
      { downstreamRemoteAddress: at(REVIEWS), downstreamDirectRemoteAddress: at(WEB) },
      "web",
    ],
    [
      "unknown when nobody has the direct remote's",
      INBOUND,
      { downstreamRemoteAddress: at(WEB), downstreamDirectRemoteAddress: at("1.2.3.4") },
      "unknown",
    ],
    [
      "the downstream local one's where there is no upstream",
      OUTBOUND,
      { downstreamLocalAddress: at(REVIEWS) },
      "reviews",
    ],
    [
      "the downstream local one's where nobody has the upstream's",
      OUTBOUND,
      { upstreamRemoteAddress: at("127.0.0.1"), downstreamLocalAddress: at(REVIEWS) },
      "reviews",
    ],
    ["never a gateway itself", ROUTER, { downstreamLocalAddress: at(GATEWAY) }, "unknown"],
    ["no workload of a service's own address", OUTBOUND, { downstreamLocalAddress: at(REVIEWS_SERVICE) }, "unknown"],
    [
      "an internal address's",
      OUTBOUND,
      { upstreamRemoteAddress: { envoyInternalAddress: { serverListenerName: "x", endpointId: `${REVIEWS}:80` } } },
      "reviews",
    ],
    ["unknown of a pipe", INBOUND, { downstreamRemoteAddress: { pipe: { path: "/x" } } }, "unknown"],
    ["unknown without addresses", INBOUND, {}, "unknown"],
  ])("%s", (_rule, sender, properties, expected) => {
    expect(labels(properties, sender)[peer(sender)]).toBe(expected);
  });
});

describe("the chain", () => {
  const exchanged = { filterStateObjects: { downstream_peer: structState({ workload: "told" }) } };
  const empty = { filterStateObjects: { downstream_peer: structState({ cluster: "east" }) } };
  const address = { downstreamRemoteAddress: at(WEB) };
  test.each<[string, Analyzer[], Fields, string]>([
    ["asks mx-mesh first by default", [...ANALYZERS], { ...exchanged, ...address }, "told"],
    ["asks k8s-mesh where no peer was exchanged", [...ANALYZERS], address, "web"],
    ["asks k8s-mesh where the exchanged peer has no name", [...ANALYZERS], { ...empty, ...address }, "web"],
    ["asks in its order", ["k8s-mesh", "mx-mesh"], { ...exchanged, ...address }, "web"],
    ["goes on where the first knows nothing", ["k8s-mesh", "mx-mesh"], exchanged, "told"],
    ["does not ask whom it does not have: k8s-mesh", ["mx-mesh", "address"], address, "unknown"],
    ["does not ask whom it does not have: mx-mesh", ["k8s-mesh"], exchanged, "unknown"],
    ["names nobody by an address alone", ["address"], address, "unknown"],
  ])("%s", (_rule, analyzers, properties, expected) => {
    expect(labelsOf(properties, INBOUND, analyzers)["source_workload"]).toBe(expected);
  });

  test("keeps what an exchanged peer without a name says besides, if nobody names it", () => {
    expect(labelsOf(empty, INBOUND)).toMatchObject({ source_workload: "unknown", source_cluster: "east" });
  });

  test("is asked for each end by itself", () => {
    const labels = labelsOf({ downstreamLocalAddress: at(REVIEWS), ...exchanged }, unnamed("x", "inbound"));
    expect(labels).toMatchObject({ source_workload: "told", destination_workload: "reviews" });
  });

  test("names the service that a TCP client calls by the address, if it has that analyzer", () => {
    const properties = { downstreamLocalAddress: at("1.2.3.4", 5432) };
    expect(tcpLabelsOf(properties, OUTBOUND)["destination_service"]).toBe("1.2.3.4:5432");
    expect(tcpLabelsOf(properties, OUTBOUND, ["mx-mesh", "k8s-mesh"])["destination_service"]).toBe("unknown");
  });
});

describe("a proxy without node metadata is", () => {
  test.each<[string, Sender, Fields, string, string]>([
    [
      "whoever has the address in its node id",
      unnamed(`sidecar~${WEB}~a.b~c`, "outbound"),
      { downstreamRemoteAddress: at(REVIEWS) },
      "source",
      "web",
    ],
    [
      "as a server whoever has the downstream local address",
      unnamed("x", "inbound"),
      { downstreamLocalAddress: at(REVIEWS) },
      "destination",
      "reviews",
    ],
    [
      "as a client whoever has the downstream's remote address",
      unnamed("x", "outbound"),
      { downstreamRemoteAddress: at(WEB) },
      "source",
      "web",
    ],
    [
      "as a gateway whoever has the downstream local address",
      unnamed("router~x~a.b~c", "outbound"),
      { downstreamLocalAddress: at(GATEWAY), downstreamRemoteAddress: at(WEB) },
      "source",
      "gateway",
    ],
    [
      "as a waypoint nobody but who has the address in its node id",
      unnamed("waypoint~x~a.b~c", "outbound"),
      { downstreamRemoteAddress: at(WEB), downstreamLocalAddress: at(REVIEWS) },
      "source",
      "",
    ],
  ])("%s", (_rule, sender, properties, side, expected) => {
    expect(labelsOf(properties, sender)[`${side}_workload`]).toBe(expected);
  });
});

describe("the service that a client calls", () => {
  const REVIEWS_LABELS = ["reviews.default.svc.cluster.local", "reviews", "default"];
  const TAGS = {
    destination_service_host: "t.host",
    destination_service_name: "t",
    destination_service_namespace: "tns",
  };
  test.each<[string, Sender, Fields, string[]]>([
    [
      "is the cluster IP's, before what was asked for",
      OUTBOUND,
      { downstreamLocalAddress: at(REVIEWS_SERVICE) },
      REVIEWS_LABELS,
    ],
    ["is the endpoint's", OUTBOUND, { upstreamRemoteAddress: at(REVIEWS) }, REVIEWS_LABELS],
    ["is the endpoint's of a gateway, too", ROUTER, { upstreamRemoteAddress: at(REVIEWS) }, REVIEWS_LABELS],
    ["is never a gateway's own", ROUTER, { downstreamLocalAddress: at(REVIEWS) }, ["unknown", "unknown", "unknown"]],
    [
      "is the service entry's whose block holds it",
      OUTBOUND,
      { downstreamLocalAddress: at("198.51.100.255") },
      ["payments.example.com", "payments.example.com", "mesh"],
    ],
    [
      "is the cluster's metadata first",
      OUTBOUND,
      { downstreamLocalAddress: at(REVIEWS_SERVICE), customTags: TAGS },
      ["t.host", "t", "tns"],
    ],
    [
      "is what was asked for where nobody has the address",
      OUTBOUND,
      { downstreamLocalAddress: at("1.2.3.4") },
      ["asked:80", "asked:80", "unknown"],
    ],
    [
      "is no service behind a catch-all",
      OUTBOUND,
      { upstreamCluster: "PassthroughCluster", downstreamLocalAddress: at(REVIEWS_SERVICE) },
      ["asked:80", "PassthroughCluster", "unknown"],
    ],
  ])("%s", (_rule, sender, properties, expected) => {
    const labels = labelsOf(properties, sender);
    const service = ["destination_service", "destination_service_name", "destination_service_namespace"];
    expect(service.map((label) => labels[label])).toEqual(expected);
  });

  test("is the server's own name where the server reports", () => {
    const labels = labelsOf({ downstreamLocalAddress: at(REVIEWS_SERVICE) }, INBOUND);
    expect(labels["destination_service_namespace"]).toBe("ns");
  });
});

test("objects that change change the labels of what comes after", () => {
  let lookup = indexOf([pod("old", [WEB])]);
  const attribution = new Attribution({
    analyzers: ANALYZERS,
    lookup: { find: (address, port) => lookup.find(address, port) },
  });
  const bytes = encodeEntry({ commonProperties: { downstreamRemoteAddress: at(WEB) } });
  const entry = new HttpEntry();
  entry.read(bytes, 0, bytes.length);
  expect(named(attribution.resolve(bytes, entry, INBOUND))["source_workload"]).toBe("old");
  lookup = indexOf([pod("new", [WEB])]);
  expect(named(attribution.resolve(bytes, entry, INBOUND))["source_workload"]).toBe("new");
});
