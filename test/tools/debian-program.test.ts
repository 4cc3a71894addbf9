// Finding Debian's programs, with folders and programs made for the occasion.

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
import { afterEach, beforeEach, expect, test } from "vitest";
import { findDebianProgram } from "./debian-program.ts";

let root = "";
let bin = "";
let cacheFolder = "";

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), "meshtally-debian-"));
  bin = join(root, "bin");
  cacheFolder = join(root, "cache");
  mkdirSync(bin);
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

function find(name: "prometheus" | "promtool") {
  return findDebianProgram(name, { env: { PATH: bin }, cacheFolder });
}

function program(name: string, script: string): string {
  const path = join(bin, name);
  writeFileSync(path, `#!/bin/sh\nPATH=/usr/bin:/bin\n${script}\n`);
  chmodSync(path, 0o755);
  return path;
}

/** An apt-get that notes each call and "downloads"; its first download fails when `hasLists` is false. */
function fakeApt(hasLists = true): void {
  program(
    "apt-get",
    `echo "$*" >> ${root}/calls
case "$*" in
  *update*) exit 0;;
  *Dir::State::lists*) ;;
  *) ${hasLists ? "" : "echo 'E: Unable to locate package prometheus' >&2; exit 100"};;
esac
touch prometheus_2.42_amd64.deb`,
  );
}

/** A dpkg that "unpacks" a prometheus and a promtool. */
function fakeDpkg(version = "exit 0"): void {
  program(
    "dpkg",
    `[ -f "$2" ] || exit 1
mkdir -p "$3/usr/bin"
for each in prometheus promtool; do
  printf '#!/bin/sh\\n${version}\\n' > "$3/usr/bin/$each"
  chmod +x "$3/usr/bin/$each"
done`,
  );
}

const calls = () =>
  existsSync(join(root, "calls")) ? readFileSync(join(root, "calls"), "utf8").trim().split("\n") : [];
const unpacked = (name: string) => join(cacheFolder, "debian", "prometheus", "usr", "bin", name);

test("a program on PATH is taken, and nothing is installed", async () => {
  fakeApt();
  const path = program("prometheus", "exit 0");
  expect(await find("prometheus")).toEqual({ path, missing: null });
  expect(calls()).toEqual([]);
});

test("it is unpacked from the package once, for all of its programs, and nothing else is left", async () => {
  fakeApt();
  fakeDpkg();
  expect(await find("prometheus")).toEqual({ path: unpacked("prometheus"), missing: null });
  expect(await find("promtool")).toEqual({ path: unpacked("promtool"), missing: null });
  expect(calls()).toHaveLength(1);
  expect(readdirSync(join(cacheFolder, "debian"))).toEqual(["prometheus"]);
});

test("two at a time both get the whole", async () => {
  fakeApt();
  fakeDpkg();
  const both = await Promise.all([find("prometheus"), find("promtool")]);
  expect(both.map(({ missing }) => missing)).toEqual([null, null]);
});

test("where the system has no package lists, lists of its own are fetched", async () => {
  fakeApt(false);
  fakeDpkg();
  expect((await find("prometheus")).missing).toBeNull();
  expect(calls().map((call) => /update|download/.exec(call)?.[0])).toEqual(["download", "update", "download"]);
});

test.each([
  ["without apt", () => {}, "apt-get"],
  ["when apt refuses", () => program("apt-get", "echo 'E: Unable to fetch' >&2; exit 100"), "E: Unable to fetch"],
  [
    "when the program does not run here",
    () => {
      fakeApt();
      fakeDpkg("echo libzstd.so.1: cannot open >&2; exit 127");
    },
    "libzstd.so.1: cannot open",
  ],
])("%s the reason is told", async (_case, prepare, reason) => {
  prepare();
  const { path, missing } = await find("prometheus");
  expect(path).toBeNull();
  expect(missing).toContain("no prometheus on PATH");
  expect(missing).toContain(reason);
});
