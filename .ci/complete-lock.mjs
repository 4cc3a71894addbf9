// Completes package-lock.json after `npm install`: adds the optional packages of other platforms that npm left out because the
// registry in use does not carry them. Without their entries `npm ci` calls the lock file out of sync. Where a platform needs one,
// npm fetches it by version; an entry made here has no integrity hash.

import { readFileSync, writeFileSync } from "node:fs";

const SYSTEMS = {
  android: "android",
  darwin: "darwin",
  freebsd: "freebsd",
  linux: "linux",
  netbsd: "netbsd",
  openbsd: "openbsd",
  openharmony: "openharmony",
  sunos: "sunos",
  aix: "aix",
  win32: "win32",
};
const PROCESSORS = {
  arm64: "arm64",
  x64: "x64",
  x86: "ia32",
  ia32: "ia32",
  arm: "arm",
  riscv64: "riscv64",
  ppc64: "ppc64",
  s390x: "s390x",
  loong64: "loong64",
  mips64el: "mips64el",
  wasm32: "wasm32",
};
const LIBRARIES = { gnu: "glibc", gnueabihf: "glibc", musl: "musl", musleabihf: "musl" };

const file = new URL("../package-lock.json", import.meta.url);
const lock = JSON.parse(readFileSync(file, "utf8"));

/** What of the name's words the table knows: `["linux"]` of `@scope/binding-linux-x64-gnu` for SYSTEMS. */
function wordsOf(name, table) {
  return [
    ...new Set(
      name
        .split("/")
        .pop()
        .split("-")
        .filter((word) => Object.hasOwn(table, word))
        .map((word) => table[word]),
    ),
  ];
}

/** Where npm would look the dependency up, nearest first: is one of the places in the lock? */
function isLocked(from, name) {
  for (let at = from; ; at = at.slice(0, Math.max(0, at.lastIndexOf("/node_modules/")))) {
    if (lock.packages[`${at === "" ? "" : `${at}/`}node_modules/${name}`]) return true;
    if (at === "") return false;
  }
}

let added = 0;
for (const [path, entry] of Object.entries(lock.packages)) {
  for (const [name, version] of Object.entries(entry.optionalDependencies ?? {})) {
    if (isLocked(path, name)) continue;
    const [os, cpu, libc] = [SYSTEMS, PROCESSORS, LIBRARIES].map((table) => wordsOf(name, table));
    lock.packages[`node_modules/${name}`] = {
      version: version.replace(/^[^\d]*/, ""),
      ...(cpu.length > 0 ? { cpu } : {}),
      ...(entry.dev ? { dev: true } : {}),
      ...(libc.length > 0 ? { libc } : {}),
      optional: true,
      ...(os.length > 0 ? { os } : {}),
    };
    added++;
  }
}
lock.packages = Object.fromEntries(Object.entries(lock.packages).sort(([a], [b]) => (a < b ? -1 : 1)));
writeFileSync(file, `${JSON.stringify(lock, null, 2)}\n`);
console.log(`${added} optional packages added`);
