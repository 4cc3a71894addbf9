// What the filters on a request's way report of it, as the collector judges that: each request counts in mesh_* once.

import { describe, expect, test } from "vitest";
import { packLabels } from "../../collector/series/key.ts";
import { judge, OBSERVERS, type Verdict } from "../../collector/series/unified.ts";
import { LABELS } from "../../collector/vocabulary.ts";
import { type Host, type HttpStream, PLAIN_REQUEST, PLAIN_RESPONSE, startFilter } from "../host/host.ts";
import { countedRequests, makeNode, PRODUCTPAGE, REVIEWS_CLUSTER, startInbound, startOutbound } from "../host/mesh.ts";
import type { Node } from "../host/property.ts";
import type { JsonObject } from "../host/struct.ts";

const NAMELESS: Node = { ...PRODUCTPAGE, metadata: { NAMESPACE: "default" } };

/** Verdicts on all that was counted there, and how often. */
function verdictsOf(host: Host): [Verdict, number][] {
  return countedRequests(host).map(({ labels, value }) => {
    const key = packLabels(LABELS.map((label) => labels[label] ?? ""));
    return [judge(key, false, "certain"), Number(value)];
  });
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
