// What `npm run envoy` makes of its arguments.

import { resolve } from "node:path";
import { bucketSettings, parseBounds } from "./histogram-buckets.ts";

const BOUNDS_FLAG = "--histogram-bounds";

/** An argument that cannot be used; its message says which, and what was expected. */
export class ArgumentError extends Error {}

/**
 * Envoy's arguments: ["sidecar.yaml", "-l", "info"] -> ["-c", "/where/it/was/called/sidecar.yaml", "-l", "info"].
 * What starts with a dash goes to Envoy as it is: ["--version"]; but `--histogram-bounds 5,10,25`, which becomes a configuration that Envoy adds
 * to the file. Throws ArgumentError if that is no list of bounds.
 */
export function envoyArguments(args: readonly string[], folder: string): string[] {
  const [first, ...rest] = args;
  if (first === undefined || first.startsWith("-")) return withBounds(args);
  return ["-c", resolve(folder, first), ...withBounds(rest)];
}

function withBounds(args: readonly string[]): string[] {
  const at = args.indexOf(BOUNDS_FLAG);
  if (at < 0) return [...args];
  const text = args[at + 1] ?? "";
  const bounds = parseBounds(text);
  if (bounds === null)
    throw new ArgumentError(`${BOUNDS_FLAG}: found "${text}", expected numbers above 0 that rise, such as 5,10,25`);
  const added = { stats_config: { histogram_bucket_settings: bucketSettings(bounds) } };
  return args.toSpliced(at, 2, "--config-yaml", JSON.stringify(added));
}
