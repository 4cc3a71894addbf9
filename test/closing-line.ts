// Vitest reporter: ends the run with the plain line `N passed, N failed, N skipped`, after the name of each skipped test.

import type { Reporter, TestModule, TestResult } from "vitest/node";

export default class ClosingLine implements Reporter {
  onTestRunEnd(modules: readonly TestModule[], unhandledErrors: readonly unknown[]): void {
    // An error that no test awaited fails the run as a whole: it counts as one failure.
    const count = { passed: 0, failed: unhandledErrors.length, skipped: 0 };
    for (const module of modules) {
      // A file that fails before its tests are known counts as one failure.
      if (module.errors().length > 0) count.failed++;
      for (const test of module.children.allTests()) {
        const result = test.result();
        if (result.state === "passed" || result.state === "failed") {
          count[result.state]++;
        } else {
          count.skipped++;
          process.stdout.write(`skipped: ${test.fullName}${reason(result)}\n`);
        }
      }
    }
    process.stdout.write(`${count.passed} passed, ${count.failed} failed, ${count.skipped} skipped\n`);
  }
}

function reason(result: TestResult): string {
  return result.state === "skipped" && result.note !== undefined ? ` (${result.note})` : "";
}
