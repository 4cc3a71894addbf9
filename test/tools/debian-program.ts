// Finds a real program that tests run against: on PATH, then in the project's .cache/debian/, where it is unpacked on first need from
// Debian's package. Needs no root: apt downloads and checks (signed lists, SHA256), dpkg unpacks.

import { execFile } from "node:child_process";
import { constants } from "node:fs";
import { access, mkdir, mkdtemp, readdir, rename, rm } from "node:fs/promises";
import { delimiter, join } from "node:path";
import { promisify } from "node:util";
import { projectRoot } from "../../envoy/project.ts";

/** Programs that tests may ask for, and the package that has each under usr/bin/. */
const PACKAGES = {
  prometheus: "prometheus",
  promtool: "prometheus",
  "victoria-metrics": "victoria-metrics",
} as const;
export type DebianProgram = keyof typeof PACKAGES;

/** `missing` says why there is none, for the test that skips. */
export type FoundProgram =
  | { readonly path: string; readonly missing: null }
  | { readonly path: null; readonly missing: string };

export interface FindOptions {
  /** Read for PATH; apt and dpkg run with it. Default: that of this process. */
  readonly env?: NodeJS.ProcessEnv;
  /** The folder under which `debian/` is kept. Default: `.cache/` of the project. */
  readonly cacheFolder?: string;
}

const RUN_TIMEOUT_MS = 100_000;
const run = promisify(execFile);

/** The program, installed if need be (some 20 MB of download, 100 MB on disk). Total: what keeps it from being had is told, not thrown. */
export async function findDebianProgram(name: DebianProgram, options: FindOptions = {}): Promise<FoundProgram> {
  const env = options.env ?? process.env;
  for (const folder of (env["PATH"] ?? "").split(delimiter)) {
    const candidate = join(folder, name);
    if (folder !== "" && (await isExecutable(candidate))) return { path: candidate, missing: null };
  }
  const pkg = PACKAGES[name];
  const folder = join(options.cacheFolder ?? join(projectRoot(), ".cache"), "debian", pkg);
  const path = join(folder, "usr", "bin", name);
  try {
    if (!(await isExecutable(path))) await install(pkg, folder, env);
    await run(path, ["--version"], { env, timeout: RUN_TIMEOUT_MS }); // a library that it needs may be absent
    return { path, missing: null };
  } catch (error: unknown) {
    return { path: null, missing: `no ${name} on PATH, and none from Debian's package ${pkg}: ${reasonOf(error)}` };
  }
}

/** Unpacks into a folder of its own and renames it, so that two installations at a time never see half of one another. */
async function install(pkg: string, folder: string, env: NodeJS.ProcessEnv): Promise<void> {
  await mkdir(join(folder, ".."), { recursive: true });
  const fresh = await mkdtemp(`${folder}.`);
  try {
    await download(pkg, fresh, env);
    const file = (await readdir(fresh)).find((each) => each.endsWith(".deb"));
    if (file === undefined) throw new Error(`apt-get download ${pkg} left no .deb`);
    const unpacked = join(fresh, "unpacked");
    await run("dpkg", ["-x", join(fresh, file), unpacked], { env, timeout: RUN_TIMEOUT_MS });
    await rename(unpacked, folder).catch(async (error: unknown) => {
      // Another process was faster: what it renamed is whole, so it is as good as ours.
      if (!(await isExecutable(join(folder, "usr", "bin", pkg)))) throw error;
    });
  } finally {
    await rm(fresh, { recursive: true, force: true });
  }
}

/** With the system's package lists; where they are absent or old, with lists of its own. */
async function download(pkg: string, folder: string, env: NodeJS.ProcessEnv): Promise<void> {
  const apt = (...args: string[]) => {
    const settings = ["APT::Sandbox::User=root", "Acquire::Retries=2", "Acquire::http::Timeout=20"];
    const flags = settings.flatMap((setting) => ["-o", setting]);
    return run("apt-get", ["-q", ...flags, ...args], { cwd: folder, env, timeout: RUN_TIMEOUT_MS });
  };
  try {
    await apt("download", pkg);
  } catch (error: unknown) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") throw error; // no apt at all
    const lists = join(folder, "lists");
    await mkdir(join(lists, "partial"), { recursive: true });
    const own = ["-o", `Dir::State::lists=${lists}`, "-o", `Dir::Cache=${folder}/cache`, "-o", "Debug::NoLocking=1"];
    await apt(...own, "update");
    await apt(...own, "download", pkg);
  }
}

async function isExecutable(path: string): Promise<boolean> {
  try {
    await access(path, constants.X_OK);
    return true;
  } catch (_absent: unknown) {
    return false;
  }
}

/** The last line that says something: "E: Unable to locate package prometheus". */
function reasonOf(error: unknown): string {
  const { message, stderr } = error as Error & { readonly stderr?: string };
  const lines = `${message}\n${stderr ?? ""}`.split("\n").filter((line) => line.trim() !== "");
  return lines[lines.length - 1] ?? String(error);
}
