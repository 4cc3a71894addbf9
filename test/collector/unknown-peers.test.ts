import { expect, test } from "vitest";
import { UNKNOWN_REASONS } from "../../collector/analysis/side.ts";
import { LABEL_REASONS, UnknownPeers } from "../../collector/record/unknown-peers.ts";
import { key } from "./labels.ts";

const KNOWN = { source_workload: "web", destination_workload: "api" };
const UNKNOWN = { source_workload: "unknown", destination_workload: "unknown" };
const BOTH = { ...KNOWN, reporter: "source", source_principal: "spiffe://td/ns/a/sa/b" };

test.each([
  ["both known", KNOWN, null, null],
  ["the client itself", { ...BOTH, source_workload: "unknown" }, "node_not_named", null],
  ["the server itself", { ...KNOWN, ...UNKNOWN, reporter: "destination" }, "peer_outside_mesh", "node_not_named"],
  ["a client of the mesh", { ...BOTH, ...UNKNOWN, reporter: "destination" }, "peer_metadata_missing", "node_not_named"],
  ["a server", { ...BOTH, destination_workload: "unknown" }, null, "peer_metadata_missing"],
  ["no server", { ...BOTH, destination_workload: "unknown", response_flags: "UF,URX" }, null, "upstream_not_reached"],
  ["a waypoint's", { ...UNKNOWN, reporter: "waypoint" }, "peer_outside_mesh", "peer_metadata_missing"],
  ["labels that were removed", { source_workload: "", destination_workload: "" }, null, null],
  ["a name that only begins so", { source_workload: "unknown-1", destination_workload: "Unknown" }, null, null],
])("%s", (_name, labels, source, destination) => {
  const peers = new UnknownPeers();
  const labelKey = key(labels);
  expect([peers.of(labelKey), peers.of(labelKey)]).toEqual([
    { source, destination },
    { source, destination },
  ]);
});

test("what is no label set has no ends", () => {
  expect(new UnknownPeers().of("\u0005ab")).toEqual({ source: null, destination: null });
});

test("each reason is one of an analysis", () => {
  expect(UNKNOWN_REASONS).toEqual(expect.arrayContaining([...LABEL_REASONS]));
});

test("more label sets than it remembers are told right, too", () => {
  const peers = new UnknownPeers(4);
  for (let round = 0; round < 3; round++) {
    for (let i = 0; i < 20; i++) {
      const source_workload = i % 2 === 0 ? "unknown" : `web-${i}`;
      const { source } = peers.of(key({ source_workload, destination_workload: `api-${i}`, reporter: "source" }));
      expect(source).toBe(i % 2 === 0 ? "node_not_named" : null);
    }
  }
});
