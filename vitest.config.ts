import { availableParallelism } from "node:os";
import { defineConfig } from "vitest/config";

/** Commands that a user types, and that build: nothing else may run from build/ meanwhile. */
const THAT_BUILD = ["test/e2e/readme.test.ts", "test/e2e/start.test.ts"];
/** Each has a mesh of nine Envoys, which mostly wait. */
const MAX_MESHES = 3;

/** What is waited for comes within seconds, but for a machine that is very busy. */
const e2e = { testTimeout: 180_000, hookTimeout: 120_000, expect: { poll: { timeout: 60_000 } } };

// One group after the other: `unit` needs nothing that runs for long; `e2e` starts meshes of real Envoys; `commands` builds.
export default defineConfig({
  test: {
    reporters: ["default", "./test/closing-line.ts"],
    projects: [
      {
        test: {
          name: "unit",
          include: ["test/**/*.test.ts"],
          exclude: ["test/e2e/**"],
          maxWorkers: "100%", // of the cores; Vitest would leave one idle
          testTimeout: 180_000, // for what hangs: a busy machine may take ten times what CI's does
          hookTimeout: 120_000,
        },
      },
      {
        test: {
          name: "e2e",
          include: ["test/e2e/**/*.test.ts"],
          exclude: THAT_BUILD,
          maxWorkers: Math.min(availableParallelism(), MAX_MESHES),
          sequence: { groupOrder: 1 },
          ...e2e,
        },
      },
      {
        test: {
          name: "commands",
          include: THAT_BUILD,
          fileParallelism: false,
          sequence: { groupOrder: 2 },
          ...e2e,
        },
      },
    ],
  },
});
