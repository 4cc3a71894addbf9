// meshtally_filter_node: who this process is, for those who read its stats alone.

import { describe, expect, test } from "vitest";
import { MAX_NODE_ID_BYTES, MetricKind, NODE_METRIC } from "../../filter/vocabulary/metrics.ts";
import type { Host } from "../host/host.ts";
import { faults, REVIEWS, startInbound } from "../host/mesh.ts";

function startAs(id: string): Host {
  return startInbound({ node: { ...REVIEWS, id } });
}

function nodeGauges(host: Host) {
  return host.stats
    .all()
    .filter(({ statName }) => statName.endsWith(NODE_METRIC))
    .map(({ statName, kind, value }) => ({ statName, kind, value }));
}

function gaugeOf(id: string) {
  const hex = Buffer.from(id, "utf8").toString("hex");
  return { statName: `component.proxy.tag.${hex};.meshtally_filter_node`, kind: MetricKind.Gauge, value: 1n };
}

describe("meshtally_filter_node", () => {
  test.each([
    "sidecar~10.0.0.9~reviews-v1-5d8c.default~default.svc.cluster.local",
    "a",
    "büro\n;.;=.=..",
    "x".repeat(MAX_NODE_ID_BYTES),
  ])("is a gauge of 1 that bears the node id %j, once the plugin is configured", (id) => {
    const host = startAs(id);
    expect(nodeGauges(host)).toEqual([gaugeOf(id)]);
    expect(faults(host)).toEqual({});
  });

  test.each([
    ["no id", ""],
    ["an id that is too long", "x".repeat(MAX_NODE_ID_BYTES + 1)],
  ])("is not there for a node with %s", (_, id) => {
    expect(nodeGauges(startAs(id))).toEqual([]);
  });

  test("is one, also when the VM has several plugins, or is configured again", () => {
    const host = startAs("n");
    host.addPlugin({ direction: "outbound" });
    host.configure(1, { direction: "inbound" });
    expect(nodeGauges(host)).toEqual([gaugeOf("n")]);
  });
});
