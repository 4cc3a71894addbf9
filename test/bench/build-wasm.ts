// Builds what the filter is compared with: the floor, and the same job on the proxy-wasm SDK for Rust.

import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { projectRoot } from "../../envoy/project.ts";

const SOURCES = join(projectRoot(), "test", "bench");
const BUILD = join(projectRoot(), "build");
const RUST_TARGET = "wasm32-wasip1";
/** Of cargo's output, when it fails. */
const SHOWN_LINES = 5;

/** Path of the wasm. Throws when it does not compile. */
export function buildFloor(): string {
  const wasm = join(BUILD, "floor.wasm");
  const compiler = join(projectRoot(), "node_modules", "assemblyscript", "bin", "asc.js");
  const { status, stderr } = spawnSync(
    process.execPath,
    [compiler, "floor.ts", "--outFile", wasm, "--runtime", "stub", "--use", "abort=", "--optimizeLevel", "3"],
    { cwd: SOURCES, encoding: "utf8" }, // there is no asconfig.json, which would add the filter itself
  );
  if (status !== 0) throw new Error(`asc floor.ts: ${stderr}`);
  return wasm;
}

/** Path of the wasm, or why there is none: no cargo, no target for wasm, no crates. */
export function buildRustFilter(): { readonly wasm: string } | { readonly missing: string } {
  const folder = join(BUILD, "rust-filter");
  const { error, status, stderr } = spawnSync(
    "cargo",
    ["build", "--release", "--target", RUST_TARGET, "--target-dir", folder],
    { cwd: join(SOURCES, "rust-filter"), encoding: "utf8" },
  );
  if (error !== undefined) return { missing: `cargo does not run (${error.message}); install Rust from rustup.rs` };
  if (status !== 0) {
    const lines = stderr.trim().split("\n").slice(-SHOWN_LINES).join("\n  ");
    return { missing: `cargo failed; is the target there? rustup target add ${RUST_TARGET}\n  ${lines}` };
  }
  return { wasm: join(folder, RUST_TARGET, "release", "rust_filter.wasm") };
}
