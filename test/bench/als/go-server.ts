// What the collector is compared with: a server in Go, built where Go and its modules are to be had (test/bench/go-als).

import { buildGoProgram } from "../../tools/go-program.ts";
import type { ServerKind } from "./server.ts";

/** The server, or why there is none. */
export async function goKind(): Promise<ServerKind | { readonly missing: string }> {
  const { path, missing } = await buildGoProgram("test/bench/go-als", "go-als");
  if (path === null) return { missing };
  return {
    command: () => [path],
    env: { GOMAXPROCS: "1" },
    readyPath: "/livez",
    readTaken: async (httpUrl) => Number(await (await fetch(`${httpUrl}/entries`)).text()),
  };
}
