// What the collector is compared with: a server in Go, built where Go and its modules are to be had (test/bench/go-als).

import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { projectRoot } from "../../../envoy/project.ts";
import type { ServerKind } from "./server.ts";

/** Of Go's output, when it fails. */
const SHOWN_LINES = 3;

/** The server, or why there is none. */
export function goKind(): ServerKind | { readonly missing: string } {
  const binary = join(projectRoot(), "build", "go-als");
  const cwd = join(projectRoot(), "test", "bench", "go-als");
  const { error, status, stderr } = spawnSync("go", ["build", "-o", binary, "."], { cwd, encoding: "utf8" });
  if (error !== undefined) return { missing: `go does not run (${error.message})` };
  if (status !== 0) return { missing: `go build failed: ${stderr.trim().split("\n").slice(-SHOWN_LINES).join("; ")}` };
  return {
    command: () => [binary],
    env: { GOMAXPROCS: "1" },
    readyPath: "/livez",
    readTaken: async (httpUrl) => Number(await (await fetch(`${httpUrl}/entries`)).text()),
  };
}
