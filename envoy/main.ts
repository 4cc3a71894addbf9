// `npm run envoy -- CONFIG [flags]`: runs the Envoy that was found or installed; signals and exit code pass through.

import { spawn } from "node:child_process";
import { constants } from "node:os";
import { ArgumentError, envoyArguments } from "./arguments.ts";
import { EnvoyNotFoundError, findEnvoy } from "./binary.ts";

const PASSED_ON: readonly NodeJS.Signals[] = ["SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1"];

async function main(args: readonly string[]): Promise<void> {
  if (args.length === 0) {
    process.stderr.write("usage: npm run envoy -- CONFIG [--histogram-bounds 5,10,25] [flags of Envoy]\n");
    process.exitCode = 2;
    return;
  }
  // npm runs scripts in the project's folder and says in INIT_CWD where the user was.
  const { INIT_CWD = process.cwd() } = process.env;
  const envoyArgs = envoyArguments(args, INIT_CWD);
  const child = spawn(await findEnvoy(), envoyArgs, { stdio: "inherit" });
  for (const signal of PASSED_ON) process.on(signal, () => child.kill(signal));
  child.on("error", fail);
  child.on("exit", (code, signal) => {
    process.exitCode = code ?? 128 + (signal === null ? 0 : constants.signals[signal]);
    for (const passed of PASSED_ON) process.removeAllListeners(passed);
  });
}

function fail(error: unknown): void {
  process.stderr.write(
    `${error instanceof EnvoyNotFoundError || error instanceof ArgumentError ? error.message : String(error)}\n`,
  );
  process.exitCode = 1;
}

main(process.argv.slice(2)).catch(fail);
