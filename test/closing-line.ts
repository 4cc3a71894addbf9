// Vitest reporter: ends the run with the plain line `N passed, N failed, N skipped`, after the name of each skipped test.

import type { Reporter, TestModule } from "vitest/node";

export default class ClosingLine implements Reporter {
  onTestRunEnd(modules: readonly TestModule[]): void {
    const count = { passed: 0, failed: 0, skipped: 0 };
    for (const module of modules) {
      // A file that fails before its tests are known counts as one failure.
      if (module.errors().length > 0) count.failed++;
      for (const test of module.children.allTests()) {
        const { state } = test.result();
        if (state === "passed" || state === "failed") count[state]++;
        else count.skipped++;
        if (state === "skipped") process.stdout.write(`skipped: ${test.fullName}${reason(test.result())}\n`);
      }
    }
    process.stdout.write(`${count.passed} passed, ${count.failed} failed, ${count.skipped} skipped\n`);
  }
}

function reason(result: { readonly note?: string | undefined }): string {
  return result.note === undefined ? "" : ` (${result.note})`;
}
