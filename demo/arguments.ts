// The command line of `npm start`.

import { parseArgs } from "node:util";

export const USAGE = `usage: npm start [-- [--for DURATION] [--rps NUMBER]]

  --for DURATION  end after that time (30s, 2m, 1500ms) and print the final table; default: run until Ctrl-C
  --rps NUMBER    requests per second that the traffic generator sends; 0 for none; default: 20
  --help          this text`;

export interface DemoArguments {
  readonly help: boolean;
  /** null: until Ctrl-C. */
  readonly forMs: number | null;
  readonly requestsPerSecond: number;
}

/** What cannot be understood; the message says which argument and what was expected. */
export class ArgumentError extends Error {
  override readonly name = "ArgumentError";
}

const MAX_REQUESTS_PER_SECOND = 1000;
const UNITS_MS: { readonly [unit: string]: number } = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 };

/** ["--for", "30s"] -> {help: false, forMs: 30000, requestsPerSecond: 20}. Throws ArgumentError. */
export function parseDemoArguments(args: readonly string[]): DemoArguments {
  const values = parseOptions(args);
  const { help = false, rps = "20" } = values;
  const requestsPerSecond = rps.trim() === "" ? Number.NaN : Number(rps);
  if (!(requestsPerSecond >= 0 && requestsPerSecond <= MAX_REQUESTS_PER_SECOND)) {
    throw new ArgumentError(`--rps ${quote(rps)}: expected a number from 0 to ${MAX_REQUESTS_PER_SECOND}`);
  }
  return { help, forMs: values.for === undefined ? null : parseDuration(values.for), requestsPerSecond };
}

function parseOptions(args: readonly string[]) {
  try {
    return parseArgs({
      args: [...args],
      options: { for: { type: "string" }, rps: { type: "string" }, help: { type: "boolean", short: "h" } },
    }).values;
  } catch (error: unknown) {
    throw new ArgumentError(error instanceof Error ? error.message : String(error));
  }
}

function parseDuration(text: string): number {
  const [, amount, unit = ""] = /^(\d+(?:\.\d+)?)(ms|s|m|h)$/.exec(text) ?? [];
  const ms = Number(amount) * (UNITS_MS[unit] ?? Number.NaN);
  if (!(ms > 0)) throw new ArgumentError(`--for ${quote(text)}: expected a duration such as 30s, 2m or 1500ms`);
  return ms;
}

function quote(value: string): string {
  return JSON.stringify(value.slice(0, 100));
}
