// Finds loopback addresses for one run, so that two runs side by side never meet.

import { createServer, type Server } from "node:net";
import { addressOf, PORTS, WORKLOADS } from "./topology.ts";

/** The claim's port on 127.0.x.1: whoever listens there owns 127.0.x. */
const CLAIM_PORT = 15999;
const SUBNETS = 254;

/** No subnet is free, or this system has no 127.0.0.0/8; the message says which. */
class NoAddressError extends Error {
  override readonly name = "NoAddressError";
}

export interface Subnet {
  /** "127.0.7" */
  readonly prefix: string;
  /** Gives it back. */
  readonly release: () => Promise<void>;
}

/** Claims one of 127.0.1 to 127.0.254, beginning at a random one, whose addresses have the mesh's fixed ports free. */
export async function claimSubnet(): Promise<Subnet> {
  const first = Math.floor(Math.random() * SUBNETS);
  let lastFault = "";
  for (let tried = 0; tried < SUBNETS; tried++) {
    const prefix = `127.0.${((first + tried) % SUBNETS) + 1}`;
    const claim = await listen(`${prefix}.1`, CLAIM_PORT);
    if (claim instanceof Error) {
      lastFault = describe(claim, `${prefix}.1`, CLAIM_PORT);
      if (claim.code !== "EADDRINUSE") break;
      continue;
    }
    const taken = await firstTakenPort(prefix);
    if (taken === null) return { prefix, release: () => close(claim) };
    lastFault = taken;
    await close(claim);
  }
  throw new NoAddressError(
    `no loopback addresses for the mesh: ${lastFault}. It needs Linux, where all of 127.0.0.0/8 is this machine, and ports ` +
      `${Object.values(PORTS).join(", ")} free on 127.0.x.y (a server that listens on 0.0.0.0 takes its port there too).`,
  );
}

/** `preferred` when it is free on that address, else another free one. */
export async function pickPort(address: string, preferred: number): Promise<number> {
  return (await isFree(address, preferred)) ? preferred : anyPort(address);
}

/** Whether one could listen there now. */
export async function isFree(address: string, port: number): Promise<boolean> {
  const server = await listen(address, port);
  if (server instanceof Error) return false;
  await close(server);
  return true;
}

async function anyPort(address: string): Promise<number> {
  const server = await listen(address, 0);
  if (server instanceof Error) throw new NoAddressError(describe(server, address, 0));
  const bound = server.address();
  await close(server);
  return typeof bound === "object" && bound !== null ? bound.port : 0;
}

async function firstTakenPort(prefix: string): Promise<string | null> {
  for (const workload of WORKLOADS) {
    const address = addressOf(workload, prefix);
    for (const port of Object.values(PORTS)) {
      const server = await listen(address, port);
      if (server instanceof Error) return describe(server, address, port);
      await close(server);
    }
  }
  return null;
}

function listen(address: string, port: number): Promise<Server | NodeJS.ErrnoException> {
  return new Promise((resolve) => {
    const server = createServer((socket) => socket.destroy());
    server.unref();
    server.once("error", resolve);
    server.listen({ host: address, port, exclusive: true }, () => resolve(server));
  });
}

function close(server: Server): Promise<void> {
  return new Promise((resolve) => server.close(() => resolve()));
}

function describe(error: NodeJS.ErrnoException, address: string, port: number): string {
  return `cannot listen on ${address}:${port} (${error.code ?? error.message})`;
}
