import { expect, test } from "vitest";
import { UNKNOWN_DESTINATION, UNKNOWN_SOURCE, UnknownPeers } from "../../collector/record/unknown-peers.ts";
import { key } from "./labels.ts";

const KNOWN = { source_workload: "web", destination_workload: "api" };

test.each([
  ["both known", key(KNOWN), 0],
  ["the source unknown", key({ ...KNOWN, source_workload: "unknown" }), UNKNOWN_SOURCE],
  ["the destination unknown", key({ ...KNOWN, destination_workload: "unknown" }), UNKNOWN_DESTINATION],
  ["both unknown", key(), UNKNOWN_SOURCE | UNKNOWN_DESTINATION],
  ["labels that were removed", key({ source_workload: "", destination_workload: "" }), 0],
  ["a name that only begins so", key({ source_workload: "unknown-1", destination_workload: "Unknown" }), 0],
  ["what is no label set", "\u0005ab", 0],
])("%s", (_name, labelKey, flags) => {
  const peers = new UnknownPeers();
  expect([peers.of(labelKey), peers.of(labelKey)]).toEqual([flags, flags]);
});

test("more label sets than it remembers are told right, too", () => {
  const peers = new UnknownPeers(4);
  for (let round = 0; round < 3; round++) {
    for (let i = 0; i < 20; i++) {
      const source_workload = i % 2 === 0 ? "unknown" : `web-${i}`;
      const flags = peers.of(key({ source_workload, destination_workload: `api-${i}` }));
      expect(flags).toBe(i % 2 === 0 ? UNKNOWN_SOURCE : 0);
    }
  }
});
