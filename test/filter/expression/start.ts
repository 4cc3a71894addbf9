// Compiles the probe and starts it in the host emulator.

import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { Host, type HostOptions, type HttpStream } from "../../host/host.ts";
import { REVIEWS } from "../../host/mesh.ts";

const ROOT = fileURLToPath(new URL("../../..", import.meta.url));

/** The probe's wasm, with the compiler's options of the filter save those for speed. */
function compileProbe(): Buffer {
  const folder = mkdtempSync(join(tmpdir(), "meshtally-probe-"));
  const file = join(folder, "probe.wasm");
  const { options } = JSON.parse(readFileSync(join(ROOT, "asconfig.json"), "utf8"));
  const config = join(folder, "asconfig.json");
  try {
    execFileSync(
      process.execPath,
      [
        join(ROOT, "node_modules/assemblyscript/bin/asc.js"),
        "test/filter/expression/probe.ts",
        ...["--config", config, "--outFile", file, "--runtime", options.runtime, "--exportStart", options.exportStart],
        ...["--use", ...options.use],
        ...options.disable.flatMap((feature: string) => ["--disable", feature]),
      ],
      { cwd: ROOT, stdio: "pipe" },
    );
    return readFileSync(file);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Compiled once per test file; a probe that does not compile fails the file at once. */
export const PROBE_WASM: Uint8Array<ArrayBuffer> = new Uint8Array(compileProbe());
const probeModule = new WebAssembly.Module(PROBE_WASM);

/** A VM with the probe and these expressions. */
export function startProbe(expressions: readonly string[], options: Partial<HostOptions> & { tick?: true } = {}): Host {
  const { tick, ...rest } = options;
  return new Host(probeModule, { node: REVIEWS, ...rest, configuration: { expressions, ...(tick ? { tick } : {}) } });
}

/** What the probe said of each expression when it took it in; index -1: it was refused. */
export function compiledForms(host: Host): { index: number; form: string }[] {
  return host.logs.map(({ text }) => ({ index: Number.parseInt(text, 10), form: text.slice(text.indexOf(" ") + 1) }));
}

/** The results as the probe left them, in the order of the configuration. */
export function results(stream: HttpStream): string[] {
  const state = stream.filterState.get("wasm.probe");
  if (state === undefined) throw new Error("the probe evaluated nothing");
  return state.toString("utf8").split("\n");
}
