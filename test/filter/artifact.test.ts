// The wasm file itself: small, reproducible, and exporting only the callbacks that are used.

import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { FILTER_WASM } from "../host/host.ts";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const MAX_BYTES = 128 * 1_024;
/** What Envoy calls or looks up; another export is a callback that costs and does nothing. */
const EXPORTS = [
  "_initialize",
  "memory",
  "proxy_abi_version_0_2_1",
  "proxy_on_configure",
  "proxy_on_context_create", // tells which plugin of the VM a stream belongs to
  "proxy_on_downstream_data",
  "proxy_on_log",
  "proxy_on_memory_allocate",
  "proxy_on_new_connection",
  "proxy_on_request_headers",
  "proxy_on_response_headers",
  "proxy_on_tick",
  "proxy_on_upstream_data",
];

test("the release build is under 128 KiB", () => {
  expect(readFileSync(FILTER_WASM).length).toBeLessThan(MAX_BYTES);
});

test("it exports only the callbacks in use", () => {
  const exported = WebAssembly.Module.exports(new WebAssembly.Module(readFileSync(FILTER_WASM))).map((one) => one.name);
  expect(exported.sort()).toEqual(EXPORTS);
});

test("it imports host functions of proxy-wasm only", () => {
  for (const one of WebAssembly.Module.imports(new WebAssembly.Module(readFileSync(FILTER_WASM)))) {
    expect(one).toMatchObject({ module: "env", kind: "function", name: expect.stringMatching(/^proxy_/) });
  }
});

test("building it again gives the same bytes", () => {
  const folder = mkdtempSync(join(tmpdir(), "meshtally-artifact-"));
  try {
    const again = join(folder, "filter.wasm");
    const asc = join(ROOT, "node_modules/assemblyscript/bin/asc.js");
    execFileSync(process.execPath, [asc, "--config", "asconfig.json", "--target", "release", "--outFile", again], {
      cwd: ROOT,
      stdio: "pipe",
    });
    expect(sha256(again)).toBe(sha256(fileURLToPath(FILTER_WASM)));
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}, 120_000);

function sha256(file: string): string {
  return createHash("sha256").update(readFileSync(file)).digest("hex");
}
