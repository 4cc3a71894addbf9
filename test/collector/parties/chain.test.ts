// The identity chain: who is asked, and why nobody knew.

import { describe, expect, it, test } from "vitest";
import { Analyser } from "../../../collector/analysis/analyse.ts";
import { type Party, UNKNOWN_REASONS, type UnknownReason } from "../../../collector/analysis/side.ts";
import { ANALYZERS, type Analyzer } from "../../../collector/identity/chain.ts";
import { decodeAlsMessage } from "../../../collector/proto/als.ts";
import { identifySender, type Sender } from "../../../collector/resolver/attribution.ts";
import { bytesState, encodeEntry, encodeMessage, type Fields, structState } from "../../fixtures/als.ts";
import { randomMessage } from "../../fixtures/als-random.ts";
import { random } from "../../property/random.ts";
import { RULES } from "../identity/cluster.ts";
import {
  at,
  BY_METADATA,
  FACTS,
  GATEWAY,
  http,
  INTERNET,
  identify,
  LOOKUP,
  NODE,
  REVIEWS,
  ROUTER,
  SHORT,
  STRANGER,
  tcp,
  told,
  uri,
  WEB,
} from "./entries.ts";

describe("the chain", () => {
  const sidecar = identify("sidecar~10.7.7.7~x.y~z", {}, "outbound");
  /** Each analyzer would call the destination otherwise. */
  const ALL = {
    upstreamCluster: "outbound|80||cluster.host",
    upstreamRemoteAddress: at(WEB),
    filterStateObjects: { upstream_peer: structState(SHORT) },
  };
  const NAMES: Record<Analyzer, string> = {
    "mx-mesh": "reviews.default",
    "k8s-mesh": "web.default",
    address: "cluster.host",
  };
  /** The same without what that analyzer goes by. */
  const without: Record<Analyzer, Fields> = {
    "mx-mesh": { ...ALL, filterStateObjects: {} },
    "k8s-mesh": { ...ALL, upstreamRemoteAddress: at(STRANGER) },
    address: { ...ALL, upstreamCluster: "" },
  };
  const pairs = ANALYZERS.flatMap((first) =>
    ANALYZERS.filter((each) => each !== first).map((each) => [first, each] as const),
  );

  it.each(pairs)("%s before %s: the first that knows, names it", (first, second) => {
    const destination = (common: Fields) => http(common, sidecar, { chain: [first, second] })[0]?.destination;
    expect(destination(ALL)).toMatchObject({ service: NAMES[first], analyzer: first });
    expect(destination(without[first])).toMatchObject({ service: NAMES[second], analyzer: second });
  });

  it.each(ANALYZERS)("%s alone: nobody else is asked", (analyzer) => {
    const destination = (common: Fields) => http(common, sidecar, { chain: [analyzer] })[0]?.destination;
    expect(destination(ALL)).toMatchObject({ service: NAMES[analyzer], analyzer });
    expect(destination(without[analyzer])).toMatchObject({ service: null, analyzer: null });
  });

  it("asks for each end by itself", () => {
    const common = {
      upstreamCluster: "outbound|80||cluster.host",
      downstreamRemoteAddress: at(WEB),
      downstreamLocalAddress: at(GATEWAY),
      filterStateObjects: { upstream_peer: structState(SHORT) },
    };
    const [server, client] = http(common, ROUTER);
    expect([server?.source.analyzer, server?.destination.analyzer]).toEqual(["k8s-mesh", "k8s-mesh"]);
    expect(client?.destination).toEqual(BY_METADATA);
  });

  it("without an analyzer knows nobody", () => {
    expect(told(http(ALL, sidecar, { chain: [] }))).toEqual(["client: (node_not_named) -> (peer_metadata_missing)"]);
  });

  it("by default asks all three, in the order of their names' list", () => {
    expect(http(ALL, sidecar)[0]?.destination).toEqual(BY_METADATA);
    expect(http(without["mx-mesh"], sidecar)[0]?.destination.service).toBe("web.default");
    expect(http({ upstreamCluster: "outbound|80||cluster.host" }, sidecar)[0]?.destination.service).toBe(
      "cluster.host",
    );
  });
});

describe("an unknown end says why", () => {
  const inbound = identify("sidecar~10.7.7.7~x.y~z", {}, "inbound");
  const outbound = identify("sidecar~10.7.7.7~x.y~z", {}, "outbound");
  const broken = bytesState(Buffer.from([255, 255, 255, 255]));
  const nameless = structState({ CLUSTER_ID: "east" });
  const certificate = { tlsProperties: { peerCertificateProperties: uri("spiffe://td/vm/1") } };
  const gone = { responseFlags: { noHealthyUpstream: true } };
  it.each<[string, Sender, Fields]>([
    ["node_not_named", outbound, {}],
    ["upstream_not_reached", outbound, gone],
    [
      "peer_malformed",
      inbound,
      { filterStateObjects: { "wasm.downstream_peer": broken }, downstreamRemoteAddress: at(STRANGER) },
    ],
    [
      "peer_not_named",
      inbound,
      { filterStateObjects: { downstream_peer: nameless }, downstreamRemoteAddress: at(NODE) },
    ],
    ["address_shared", inbound, { downstreamRemoteAddress: at(NODE), ...certificate }],
    ["address_not_known", inbound, { downstreamRemoteAddress: at(STRANGER), ...certificate }],
    ["address_not_known", inbound, { downstreamRemoteAddress: at("fd12::7") }],
    ["peer_metadata_missing", inbound, { downstreamRemoteAddress: at(INTERNET), ...certificate }],
    ["peer_metadata_missing", outbound, { upstreamRemoteAddress: at(INTERNET) }],
    ["peer_outside_mesh", inbound, { downstreamRemoteAddress: at(INTERNET) }],
  ])("%s", (reason, sender, common) => {
    for (const sides of [http(common, sender), tcp(common, sender)]) {
      const [side] = sides;
      const end = reason === "node_not_named" || sender === inbound ? side?.source : side?.destination;
      expect(end).toMatchObject({ service: null, workload: null, analyzer: null, reason });
    }
  });

  it("has no reason when it is known", () => {
    const [side] = http({ upstreamCluster: "outbound|80||a.b" }, identify("e", FACTS, "outbound"));
    expect(side?.source).not.toHaveProperty("reason");
    expect(side?.destination).not.toHaveProperty("reason");
  });
});

describe("parties are made once", () => {
  const sender = identify("sidecar~10.7.7.7~x.y~z", FACTS, "outbound");
  it.each<[string, Fields]>([
    ["of metadata", { filterStateObjects: { upstream_peer: structState(SHORT) } }],
    ["of objects", { upstreamRemoteAddress: at(REVIEWS) }],
    ["of nobody", { responseFlags: { noHealthyUpstream: true } }],
  ])("%s, and cannot be changed", (_name, commonProperties) => {
    const bytes = encodeEntry({ commonProperties, request: { requestMethod: 1, path: "/" } });
    const analyser = new Analyser(Date.now, { analyzers: ANALYZERS, lookup: LOOKUP, rules: RULES });
    const analyse = () => analyser.analyseHttp(bytes, 0, bytes.length, sender)[0];
    const [first, second] = [analyse(), analyse()];
    expect(first?.source).toBe(second?.source);
    expect(first?.destination).toBe(second?.destination);
    expect(Object.isFrozen(first?.source) && Object.isFrozen(first?.destination)).toBe(true);
  });
});

test("of random entries, whole and broken, each end is known, or has a reason", () => {
  const draw = random(20_261_122);
  const analyser = new Analyser(Date.now, { analyzers: ANALYZERS, lookup: LOOKUP, rules: RULES });
  const ends: Party[] = [];
  for (let i = 0; i < 250; i++) {
    const bytes = encodeMessage(randomMessage(draw));
    if (draw() < 0.3) bytes[Math.floor(draw() * bytes.length)] = Math.floor(draw() * 256);
    const message = decodeAlsMessage(bytes);
    if (message === null) continue;
    const sender = message.identifier === null ? ROUTER : identifySender(message.identifier);
    const spans = [message.httpEntries, message.tcpEntries];
    const sides = spans.flatMap((entries, isTcp) =>
      entries.flatMap((start, at) => {
        if (at % 2 === 1) return [];
        const stop = entries[at + 1] as number;
        return isTcp === 1
          ? analyser.analyseTcp(bytes, start, stop, sender)
          : analyser.analyseHttp(bytes, start, stop, sender);
      }),
    );
    ends.push(...sides.flatMap(({ source, destination }) => [source, destination]));
  }
  const isRight = ({ service, analyzer, reason }: Party) =>
    analyzer === null
      ? service === null && UNKNOWN_REASONS.includes(reason as UnknownReason)
      : Boolean(service) && reason === undefined;
  expect(ends.filter((end) => !isRight(end))).toEqual([]);
  expect(ends.length).toBeGreaterThan(300);
  expect(ends.some(({ analyzer }) => analyzer === null)).toBe(true);
});
