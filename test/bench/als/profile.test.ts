// Reading CPU profiles.

import { expect, test } from "vitest";
import { type CpuProfile, topSelfTimes } from "./profile.ts";

function node(id: number, functionName: string, url: string, lineNumber = 1) {
  return { id, callFrame: { functionName, url, lineNumber } };
}

const PROFILE: CpuProfile = {
  nodes: [
    node(1, "(idle)", ""),
    node(2, "read", "file:///src/meshtally/build/collector/proto/wire.js"),
    node(3, "read", "file:///src/meshtally/build/collector/proto/wire.js", 9), // the same function, called from elsewhere
    node(4, "read", "file:///src/meshtally/node_modules/some/read.js"),
    node(5, "", "node:buffer"),
  ],
  samples: [1, 2, 3, 4, 5, 2],
  timeDeltas: [9000, 1000, 2000, 500, 1500, 3000],
};

test("functions are added up by name and file, idle time left out", () => {
  expect(topSelfTimes([PROFILE], 10)).toEqual([
    { name: "read", file: "collector/proto/wire.js", milliseconds: 6, share: 0.75 },
    { name: "(anonymous)", file: "node:buffer", milliseconds: 1.5, share: 0.1875 },
    { name: "read", file: "some/read.js", milliseconds: 0.5, share: 0.0625 },
  ]);
});

test("profiles of several threads are one, cut to the first few", () => {
  expect(topSelfTimes([PROFILE, PROFILE], 1)).toEqual([
    { name: "read", file: "collector/proto/wire.js", milliseconds: 12, share: 0.75 },
  ]);
});
