// The collector's process: command line, configuration, signals. What it runs is in pipeline.ts.

import { resolve } from "node:path";
import { parseArgs } from "node:util";
import type { Config } from "./config/config.ts";
import { loadConfig } from "./config/load.ts";
import { CollectorError } from "./error.ts";
import { createLog } from "./log.ts";
import { type Collector, startCollector } from "./pipeline.ts";
import { VERSION } from "./version.ts";

const USAGE = `Usage: collector [--config FILE] [--check-config]

Counts the requests of an Envoy mesh from access logs and stats; shows them as Prometheus metrics and a graph.

  --config FILE    YAML configuration; default: $MESHTALLY_CONFIG, else defaults (docs/configuration.md)
  --check-config   check the configuration, list every fault, and end
  --help           print this
  --version        print the version

Example: collector --config deploy/collector.yaml
`;

/** Exit codes besides 0, as docs/configuration.md lists them. */
const EXIT_FAILED = 1;
const EXIT_USAGE = 2;
/** A process that a signal ended exits with 128 and the signal's number. */
const EXIT_SIGNAL = { SIGINT: 130, SIGTERM: 143 } as const;

interface CommandLine {
  readonly config?: string | undefined;
  readonly "check-config"?: boolean | undefined;
  readonly help?: boolean | undefined;
  readonly version?: boolean | undefined;
}

function parseCommandLine(args: readonly string[]): CommandLine {
  const flag = { type: "boolean" } as const;
  const options = { config: { type: "string" }, "check-config": flag, help: flag, version: flag } as const;
  try {
    return parseArgs({ args: [...args], options }).values;
  } catch (error: unknown) {
    const message = error instanceof Error ? error.message : String(error);
    throw new CollectorError("config_invalid", `${message}\n\n${USAGE}`, { cause: error });
  }
}

async function run(args: readonly string[], env: NodeJS.ProcessEnv): Promise<void> {
  const commandLine = parseCommandLine(args);
  if (commandLine.help) {
    process.stdout.write(USAGE);
    return;
  }
  if (commandLine.version) {
    process.stdout.write(`${VERSION}\n`);
    return;
  }
  const path = configPath(commandLine.config ?? env["MESHTALLY_CONFIG"] ?? "", env);
  const config = loadConfig({ path, env });
  if (commandLine["check-config"]) {
    process.stdout.write(`${path ?? "the default configuration"} is valid\n`);
    return;
  }
  await serve(config);
}

/** npm runs scripts in the project's folder and says in INIT_CWD where the user was. Null when no file is named. */
function configPath(path: string, { INIT_CWD = process.cwd() }: NodeJS.ProcessEnv): string | null {
  return path === "" ? null : resolve(INIT_CWD, path);
}

/** Resolves when it listens. From then on it ends by a signal: the first drains, the second ends it at once. */
async function serve(config: Config): Promise<void> {
  const { level } = config.log;
  const log = createLog("collector", { level });
  const collector = await startCollector(config, (component) => createLog(component, { level }));
  const { grpcAddress: grpc, httpAddress: http, otlpAddresses: otlp } = collector;
  const addresses = { grpc, http, otlp_grpc: otlp.grpc ?? undefined, otlp_http: otlp.http ?? undefined };
  // The addresses that were picked are told even if nothing else is: scripts read this line.
  createLog("collector").info({ ...addresses, version: VERSION, targets: config.scrape.targets.length }, "listening");

  collector.failed.then((error) => {
    log.error({ err: error }, "counts are lost, so the process ends");
    fail(error);
  });
  let isStopping = false;
  for (const signal of ["SIGINT", "SIGTERM"] as const) {
    process.on(signal, () => {
      if (isStopping) process.exit(EXIT_SIGNAL[signal]);
      isStopping = true;
      log.info({ signal }, "draining");
      drain(collector).catch(fail);
    });
  }
}

async function drain(collector: Collector): Promise<void> {
  await collector.stop();
  process.exit(0);
}

function fail(error: unknown): never {
  const { code, message, cause } = CollectorError.from(error);
  const reason = cause instanceof Error && cause.message !== "" && !message.includes(cause.message);
  process.stderr.write(`${message}${reason ? `: ${cause.message}` : ""}\n`);
  process.exit(code === "config_invalid" ? EXIT_USAGE : EXIT_FAILED);
}

run(process.argv.slice(2), process.env).catch(fail);
