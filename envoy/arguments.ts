// What `npm run envoy` makes of its arguments.

import { resolve } from "node:path";

/**
 * Envoy's arguments: ["sidecar.yaml", "-l", "info"] -> ["-c", "/where/it/was/called/sidecar.yaml", "-l", "info"].
 * What starts with a dash goes to Envoy as it is: ["--version"].
 */
export function envoyArguments(args: readonly string[], folder: string): string[] {
  const [first, ...rest] = args;
  if (first === undefined || first.startsWith("-")) return [...args];
  return ["-c", resolve(folder, first), ...rest];
}
