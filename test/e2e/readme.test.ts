// What the READMEs tell a user to type, typed: the commands of envoy/README.md with the shipped configurations. Only the ports are
// others, picked free.

import { type ChildProcess, spawn } from "node:child_process";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { createServer, type Server } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { httpCall } from "../../demo/http-call.ts";
import { findEnvoy } from "../../envoy/binary.ts";
import { projectRoot } from "../../envoy/project.ts";
import { freePort } from "../tools/free-port.ts";
import { parseExposition } from "./exposition.ts";
import { settled } from "./observed.ts";

/** Ports of the shipped configurations and of the README, each replaced by a free one. */
const PORTS = [6379, 6380, 8000, 8080, 11800, 12800, 15000, 15001, 15006, 15007, 15100, 16379];

const ports = new Map<number, number>();
const children: ChildProcess[] = [];
const paths: string[] = [];
let application: Server;
let tcpApplication: Server;
let folder = "";

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "meshtally-readme-"));
  for (const port of PORTS) ports.set(port, await freePort());
  application = createServer((request, response) => {
    paths.push(request.url ?? "");
    response.end("hello");
  });
  tcpApplication = createServer((_, response) => response.end("bytes"));
  await new Promise<void>((resolve) => application.listen(ports.get(8080), "127.0.0.1", resolve));
  await new Promise<void>((resolve) => tcpApplication.listen(ports.get(6379), "127.0.0.1", resolve));
});

afterAll(async () => {
  await Promise.all(
    children.map((child) => {
      if (child.exitCode !== null || child.signalCode !== null) return null;
      process.kill(-(child.pid as number), "SIGTERM");
      return new Promise((resolve) => child.on("close", resolve));
    }),
  );
  for (const server of [application, tcpApplication]) {
    server.closeAllConnections();
    server.close();
  }
  await rm(folder, { recursive: true });
});

/** The text with every known port replaced. */
function withFreePorts(text: string): string {
  return text.replace(/\b\d{4,5}\b/g, (digits) => String(ports.get(Number(digits)) ?? digits));
}

async function copied(file: string): Promise<string> {
  const path = join(folder, file.replaceAll("/", "-"));
  await writeFile(path, withFreePorts(await readFile(join(projectRoot(), file), "utf8")));
  return path;
}

/** Starts `npm run SCRIPT -- ARGS` and waits until its output matches, or its port answers. */
async function run(script: string, args: readonly string[], readyUrl: string): Promise<void> {
  const child = spawn("npm", ["run", "--silent", script, "--", ...args], {
    cwd: projectRoot(),
    env: { ...process.env, ENVOY: await findEnvoy() },
    stdio: ["ignore", "pipe", "pipe"],
    detached: true,
  });
  children.push(child);
  let output = "";
  child.stdout.on("data", (bytes: Buffer) => {
    output += bytes;
  });
  child.stderr.on("data", (bytes: Buffer) => {
    output += bytes;
  });
  const isReady = () =>
    fetch(readyUrl).then(
      (answer) => answer.ok,
      () => false,
    );
  const ready = await settled(isReady, (value) => value || child.exitCode !== null);
  if (!ready) throw new Error(`npm run ${script} ${args.join(" ")}: not ready\n${output}`);
}

test("the collector, a sidecar and a gateway run as envoy/README.md says, and count a request on each hop", async () => {
  const at = (port: number) => `http://127.0.0.1:${ports.get(port)}`;
  const config = join(folder, "collector.yaml");
  await writeFile(
    config,
    withFreePorts(
      "grpc: { address: 127.0.0.1:11800 }\nhttp: { address: 127.0.0.1:12800 }\nscrape: { targets: [127.0.0.1:15000, 127.0.0.1:15100] }\n",
    ),
  );
  await run("collector", ["--config", config], `${at(12800)}/livez`);
  await run("envoy", [await copied("envoy/sidecar.yaml")], `${at(15000)}/ready`);
  await run("envoy", [await copied("envoy/gateway.yaml"), "--use-dynamic-base-id"], `${at(15100)}/ready`);

  expect((await httpCall(`${at(8000)}/through-gateway`, {})).body).toBe("hello");
  expect((await httpCall(`${at(15001)}/as-application`, { host: "web" })).body).toBe("hello");
  expect(paths).toEqual(["/through-gateway", "/as-application"]);

  const counted = async () => {
    const samples = parseExposition(await (await fetch(`${at(12800)}/metrics`)).text());
    return samples
      .filter(({ name }) => name === "istio_requests_total")
      .map(
        ({ labels, value }) =>
          `${labels["reporter"]} ${labels["source_workload"]} -> ${labels["destination_workload"]} ${value}`,
      )
      .sort();
  };
  expect(await settled(counted, (lines) => lines.length >= 4)).toEqual([
    "destination ingress-gateway -> web-v1 1",
    "destination web-v1 -> web-v1 1",
    "source ingress-gateway -> web-v1 1",
    "source web-v1 -> web-v1 1",
  ]);
  expect((await fetch(`${at(12800)}/readyz`)).status).toBe(200);

  expect((await httpCall(`${at(6380)}/`, { connection: "close" })).body).toBe("bytes");
  expect((await httpCall(`${at(16379)}/`, { connection: "close" })).body).toBe("bytes");
  const connections = async () => {
    const texts = [15000, 15100].map(async (port) => {
      const answer = await fetch(`${at(port)}/stats/prometheus?usedonly&filter=istio_tcp_connections_closed`);
      return parseExposition(await answer.text());
    });
    return (await Promise.all(texts))
      .flat()
      .map(
        ({ labels, value }) =>
          `${labels["reporter"]} ${labels["source_workload"]} -> ${labels["destination_workload"]} ${value}`,
      )
      .sort();
  };
  expect(await settled(connections, (lines) => lines.length >= 4)).toEqual([
    "destination ingress-gateway -> web-v1 1",
    "destination web-v1 -> web-v1 1",
    "source ingress-gateway -> web-v1 1",
    "source web-v1 -> web-v1 1",
  ]);
});
