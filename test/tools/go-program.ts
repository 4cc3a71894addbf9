// Builds a program of this project that is written in Go, where Go and its modules are to be had.

import { execFile } from "node:child_process";
import { join } from "node:path";
import { projectRoot } from "../../envoy/project.ts";

/** The first time modules come from the net, and all is compiled: some two minutes of a core. */
const BUILD_TIMEOUT_MS = 300_000;
/** Of Go's output, when it fails. */
const SHOWN_LINES = 3;

/** `missing` says why there is none, for the test that skips. */
export type BuiltProgram =
  | { readonly path: string; readonly missing: null }
  | { readonly path: null; readonly missing: string };

/** `folder`: that of its main package, from the project's on. Total: what keeps it from being had is told, not thrown. */
export async function buildGoProgram(folder: string, name: string): Promise<BuiltProgram> {
  const path = join(projectRoot(), "build", name);
  const cwd = join(projectRoot(), folder);
  return new Promise((resolve) => {
    execFile("go", ["build", "-o", path, "."], { cwd, timeout: BUILD_TIMEOUT_MS }, (error, _stdout, stderr) => {
      if (error === null) resolve({ path, missing: null });
      else if (error.code === "ENOENT") resolve({ path: null, missing: "there is no go on PATH" });
      else if (error.killed) resolve({ path: null, missing: `go build took longer than ${BUILD_TIMEOUT_MS / 1000} s` });
      else
        resolve({
          path: null,
          missing: `go build failed: ${stderr.trim().split("\n").slice(-SHOWN_LINES).join("; ")}`,
        });
    });
  });
}
