import { defineConfig } from "vitest/config";

// Two projects: `unit` needs nothing that runs for long; `e2e` starts whole meshes of real Envoys, one file at a time.
export default defineConfig({
  test: {
    reporters: ["default", "./test/closing-line.ts"],
    projects: [
      {
        test: {
          name: "unit",
          include: ["test/**/*.test.ts"],
          exclude: ["test/e2e/**"],
          testTimeout: 60_000,
          hookTimeout: 120_000,
        },
      },
      {
        test: {
          name: "e2e",
          include: ["test/e2e/**/*.test.ts"],
          fileParallelism: false,
          sequence: { groupOrder: 1 }, // after all unit tests: it rebuilds, and wants the machine to itself
          testTimeout: 180_000,
          hookTimeout: 120_000,
        },
      },
    ],
  },
});
