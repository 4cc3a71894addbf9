// How many cases a property test runs.

/**
 * `usual` in CI: seeds are fixed there, so that more of them would find the same each time. By hand as many times that as TIMES says:
 * `SEED=1 npm run test:property`.
 */
export function cases(usual: number): number {
  return usual * Number(process.env["TIMES"] ?? 1);
}
