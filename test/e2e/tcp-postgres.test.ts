// A real PostgreSQL and its own client on either side of the mesh: the session goes as without it, byte by byte.

import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { chown, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import { describe, expect, test } from "vitest";
import { Child } from "../../demo/child.ts";
import { Watchdog } from "../../demo/watchdog.ts";
import { freePort } from "../tools/free-port.ts";
import { countsOf, countsOnceClosed } from "./tcp-counts.ts";
import { App, accountsOfCallees, accountsOfCallers, dial, forwardTo } from "./tcp-line.ts";
import { exchangeSettings, startTcpMesh } from "./tcp-mesh.ts";

/** PostgreSQL refuses to run as root; this is who nobody is on Linux. */
const NOBODY = 65534;
const run = promisify(execFile);

const SCRIPT = `
  CREATE TABLE things (id int PRIMARY KEY, name text);
  INSERT INTO things SELECT i, md5(i::text) FROM generate_series(1, 20000) i;
  SELECT count(*), md5(string_agg(name, ',' ORDER BY id)) FROM things;
  COPY things TO STDOUT;
  SELECT pg_sleep(0.2), repeat('x', 1000000);
  DROP TABLE things;
`;

interface Database {
  readonly port: number;
  stop(): Promise<void>;
}

/** The programs that are missing on PATH. */
function missing(): string[] {
  const folders = (process.env["PATH"] ?? "").split(delimiter);
  return ["initdb", "postgres", "psql"].filter((name) => !folders.some((folder) => existsSync(join(folder, name))));
}

async function startDatabase(): Promise<Database> {
  const folder = await mkdtemp(join(tmpdir(), "meshtally-postgres-"));
  const isRoot = process.getuid?.() === 0;
  const user = isRoot ? { uid: NOBODY, gid: NOBODY } : {};
  if (isRoot) await chown(folder, NOBODY, NOBODY);
  const data = join(folder, "data");
  await run("initdb", ["--pgdata", data, "--auth", "trust", "--username", "postgres", "--no-sync"], {
    ...user,
    cwd: folder,
  });
  const port = await freePort();
  const watchdog = new Watchdog(folder);
  const settings = ["fsync=off", "listen_addresses=127.0.0.1", `unix_socket_directories=${folder}`, `port=${port}`];
  const child = await Child.start(
    "postgres",
    "postgres",
    ["-D", data, ...settings.flatMap((setting) => ["-c", setting])],
    watchdog,
    { ...user, cwd: folder },
  );
  const stop = async () => {
    await child.kill("SIGQUIT");
    await watchdog.close();
    await rm(folder, { recursive: true, force: true });
  };
  for (let tries = 0; ; tries++) {
    try {
      await psql(port, "SELECT 1");
      return { port, stop };
    } catch (error: unknown) {
      if (child.hasEnded || tries > 600) {
        await stop();
        throw child.hasEnded ? child.failure() : error;
      }
      await sleep(100);
    }
  }
}

/** What the client prints for it. */
async function psql(port: number, script: string): Promise<string> {
  const args = ["-h", "127.0.0.1", "-p", `${port}`, "-U", "postgres", "-X", "-v", "ON_ERROR_STOP=1", "-c", script];
  return (await run("psql", args, { maxBuffer: 64 * 1024 * 1024 })).stdout;
}

describe("PostgreSQL", () => {
  test("a session through the mesh is the session without it", async (context) => {
    const absent = missing();
    if (absent.length > 0) context.skip(`not on PATH: ${absent.join(", ")}`);
    const database = await startDatabase();
    try {
      const wanted = await psql(database.port, SCRIPT);
      expect(wanted.length).toBeGreaterThan(1_500_000);
      for (const isMutualTls of [true, false]) {
        const mesh = await startTcpMesh({
          isMutualTls,
          exchange: exchangeSettings(isMutualTls),
          service: forwardTo(() => dial(database.port)),
        });
        const entrance = new App(forwardTo(mesh.dial));
        try {
          const port = Number((await entrance.listen()).split(":")[1]);
          const sessions = await Promise.all([psql(port, SCRIPT), psql(port, "SELECT 42"), psql(port, "SELECT 'ü'")]);
          expect(sessions[0]).toBe(wanted);
          await Promise.all(mesh.dialled.map(({ closed }) => closed));
          await Promise.all(mesh.app.lines.map(({ closed }) => closed));
          expect(accountsOfCallees(mesh.app.lines)).toEqual(accountsOfCallers(mesh.dialled));
          const counts = countsOf(mesh.dialled);
          const counted = [mesh.caller, mesh.db].map((proxy) => countsOnceClosed(proxy, counts.closed));
          expect(await Promise.all(counted)).toEqual([counts, counts]);
        } finally {
          entrance.stop();
          await mesh.stop();
        }
      }
    } finally {
      await database.stop();
    }
  });
});
