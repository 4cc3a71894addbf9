// What the filters on a request's way report of it, as the collector judges that: each request counts in mesh_* once.

import { describe, expect, test } from "vitest";
import { packLabels } from "../../collector/series/key.ts";
import { overflowKeyOf } from "../../collector/series/overflow.ts";
import { judge, OBSERVERS, type Verdict } from "../../collector/series/unified.ts";
import { LABELS } from "../../collector/vocabulary.ts";
import { type Host, type HttpStream, PLAIN_REQUEST, PLAIN_RESPONSE, startFilter } from "../host/host.ts";
import {
  countedRequests,
  exchangeHeaders,
  FROM_PRODUCTPAGE,
  faults,
  makeNode,
  PRODUCTPAGE,
  REVIEWS,
  REVIEWS_CLUSTER,
  startInbound,
  startOutbound,
} from "../host/mesh.ts";
import type { Node } from "../host/property.ts";
import type { JsonObject } from "../host/struct.ts";

const NAMELESS: Node = { ...PRODUCTPAGE, metadata: { NAMESPACE: "default" } };

/** The label sets, in the order in which they were first counted. */
function keysOf(host: Host): string[] {
  return countedRequests(host).map(({ labels }) => packLabels(LABELS.map((label) => labels[label] ?? "")));
}

/** Verdicts on all that was counted there, and how often. */
function verdictsOf(host: Host): [Verdict, number][] {
  const verdicts = keysOf(host).map((key) => judge(key, false, "certain"));
  return countedRequests(host).map(({ value }, index) => [verdicts[index] as Verdict, Number(value)]);
}

function countedIn(host: Host): number {
  return verdictsOf(host).reduce(
    (sum, [verdict, count]) => sum + ((OBSERVERS as readonly Verdict[]).includes(verdict) ? count : 0),
    0,
  );
}

/** The proxies on the way, from client to server; each sees what the one before it sent, and what the one behind it answered. */
function send(way: readonly Host[]): void {
  const streams: HttpStream[] = [];
  let headers = PLAIN_REQUEST;
  for (const host of way) {
    const stream = host.stream({
      requestHeaders: headers,
      cluster: REVIEWS_CLUSTER,
      routeName: "default",
      endpoint: {},
    });
    stream.sendRequestHeaders();
    headers = stream.requestHeaders.pairs();
    streams.push(stream);
  }
  let answer = PLAIN_RESPONSE;
  for (const stream of streams.toReversed()) {
    for (const [name, value] of answer) stream.responseHeaders.replace(name, value);
    stream.sendResponseHeaders();
    answer = stream.responseHeaders.pairs();
  }
  for (const stream of streams) stream.log();
}

describe("through a waypoint", () => {
  const startWaypoint = (configuration: JsonObject = {}) =>
    startFilter({
      node: makeNode("waypoint", "v9", "127.0.1.9"),
      configuration: { reporter: "SERVER_GATEWAY", ...configuration },
    });

  test.each<[string, () => Host | null, Verdict]>([
    ["a client with a proxy: at that", () => startOutbound(), "reported_by_source"],
    ["a client without a proxy: at the waypoint", () => null, "waypoint"],
    [
      "a client whose proxy says nothing of itself: at the waypoint",
      () => startOutbound({ node: NAMELESS }),
      "waypoint",
    ],
  ])("a request of %s, and nowhere else", (_, startClient, atWaypoint) => {
    const client = startClient();
    const [waypoint, server] = [startWaypoint(), startInbound()];
    const way = client === null ? [waypoint, server] : [client, waypoint, server];
    for (let count = 0; count < 3; count++) send(way);
    expect(verdictsOf(waypoint)).toEqual([[atWaypoint, 3]]);
    expect(verdictsOf(server)).toEqual([["reported_by_source", 3]]);
    expect(way.reduce((sum, host) => sum + countedIn(host), 0)).toBe(3);
  });

  test("a request of a client without a proxy to a server without one counts at the waypoint", () => {
    const waypoint = startWaypoint();
    send([waypoint]);
    expect(verdictsOf(waypoint)).toEqual([["waypoint", 1]]);
  });
});

test("without a waypoint a request counts at its client's proxy, and without that at its server's", () => {
  const [client, server] = [startOutbound(), startInbound()];
  send([client, server]);
  expect([countedIn(client), countedIn(server)]).toEqual([1, 0]);
  send([server]);
  expect(countedIn(server)).toBe(1);
});

describe("beyond the filter's cap on label sets", () => {
  const codes = ["200", "404", "503"];

  /** Requests from a proxy, and from none, through each kind of listener, by proxies that name themselves, and by some that do not. */
  function counted(max_label_sets: number): Map<string, number> {
    const sums = new Map<string, number>();
    for (const node of [PRODUCTPAGE, NAMELESS]) {
      for (const role of [{ direction: "inbound" }, { direction: "outbound" }, { reporter: "SERVER_GATEWAY" }]) {
        const host = startFilter({ node, configuration: { ...role, max_label_sets } });
        for (const code of codes) {
          const answer = { responseHeaders: [[":status", code] as const, ...exchangeHeaders(REVIEWS)] };
          for (const requestHeaders of [PLAIN_REQUEST, FROM_PRODUCTPAGE.requestHeaders]) {
            host.request({ requestHeaders, ...answer, cluster: REVIEWS_CLUSTER, routeName: "default" });
          }
        }
        expect(faults(host)).toEqual(max_label_sets === 1 ? { label_sets_full: expect.any(Number) } : {});
        for (const [verdict, count] of verdictsOf(host)) {
          const kind = `${JSON.stringify(role)}, ${JSON.stringify(node.metadata["WORKLOAD_NAME"])}: ${verdict}`;
          sums.set(kind, (sums.get(kind) ?? 0) + count);
        }
      }
    }
    return sums;
  }

  test("each report counts as it would have", () => {
    const expected = counted(1000);
    expect(new Set([...expected.keys()].map((kind) => kind.replace(/.*: /, "")))).toEqual(
      new Set(["destination", "reported_by_source", "source", "proxy_unnamed", "waypoint"]),
    );
    expect(counted(1)).toEqual(expected);
  });

  test("the collector's overflow of a label set is the filter's", () => {
    for (const requestHeaders of [PLAIN_REQUEST, FROM_PRODUCTPAGE.requestHeaders]) {
      const [roomy, full] = [1000, 1].map((max_label_sets) => {
        const host = startInbound({ configuration: { direction: "inbound", max_label_sets } });
        host.request({ responseHeaders: [[":status", "404"]] });
        host.request({ requestHeaders });
        return keysOf(host)[1];
      });
      expect(overflowKeyOf(roomy as string, false)).toBe(full);
    }
  });
});
