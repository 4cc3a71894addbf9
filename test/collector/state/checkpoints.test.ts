// Savings that fail: told, counted, and no reason to stand still.

import { mkdtempSync, readFileSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, expect, it } from "vitest";
import { SelfMetrics } from "../../../collector/self.ts";
import { DEFAULT_SHAPES } from "../../../collector/series/shape.ts";
import { Checkpoints } from "../../../collector/state/checkpoints.ts";

const folder = mkdtempSync(join(tmpdir(), "meshtally-checkpoints-"));
afterEach(() => rmSync(folder, { recursive: true, force: true }));

it("goes on, and shows what it counted, when the disk is full", async () => {
  const self = new SelfMetrics(null);
  const told: string[] = [];
  const log = { info: () => {}, warn: () => {}, error: (_fields: object, message: string) => told.push(message) };
  const options = { folder, intervalMs: 5, meaning: "", shapes: DEFAULT_SHAPES, self, log };
  const checkpoints = await Checkpoints.open(options);
  let shown = 0;
  let isTold = false;
  const shownTold: boolean[] = [];
  const saved = {
    async *pieces() {
      yield Buffer.from([0]);
      isTold = true; // what is told is what is shown after
    },
    release: async () => {
      shown++;
      shownTold.push(isTold);
      isTold = false;
    },
  };
  symlinkSync("/dev/full", join(folder, "counts.state.tmp")); // the one it will write to
  checkpoints.start(saved);
  while (shown < 2) await new Promise((resolve) => setTimeout(resolve, 5));
  await checkpoints.stop(saved);
  expect(shownTold.slice(0, 2)).toEqual([true, true]);
  const page = await self.registry.metrics();
  expect(page).toContain('meshtally_state_failures_total{reason="disk_full"} 1\n');
  expect(told).toEqual(["state could not be saved: what is counted is shown all the same"]);
  expect(readFileSync(join(folder, "counts.state")).length).toBeGreaterThan(0); // the next one, when there was room
});
