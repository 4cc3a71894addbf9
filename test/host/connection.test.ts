// The emulation of connections itself, with a filter of a few lines that does what the first byte tells it and logs what it is shown.

import asc from "assemblyscript/asc";
import { beforeAll, describe, expect, test } from "vitest";
import { Host, START_TIME_NS } from "./host.ts";
import { REVIEWS } from "./mesh.ts";

/** `h`: hold. `s`: strip two bytes. `p`: prepend an X. `!`: hold, and continue at once. `t`: ask for a tick of that many ms. */
const PROBE = `
@external("env", "proxy_log") declare function log(level: u32, text: usize, size: usize): u32;
@external("env", "proxy_get_buffer_bytes") declare function read(type: u32, start: u32, length: u32, out: usize, sizeOut: usize): u32;
@external("env", "proxy_set_buffer_bytes") declare function write(type: u32, start: u32, length: u32, from: usize, size: usize): u32;
@external("env", "proxy_continue_stream") declare function resume(type: u32): u32;
@external("env", "proxy_set_effective_context") declare function become(id: u32): u32;
@external("env", "proxy_set_tick_period_milliseconds") declare function period(ms: u32): u32;
@external("env", "proxy_get_property") declare function property(path: usize, size: usize, out: usize, sizeOut: usize): u32;

const OUT = memory.data(8);
const X = memory.data<u8>([0x58]);
let newest: u32 = 0;

function say(text: string): void {
  const bytes = String.UTF8.encode(text);
  log(2, changetype<usize>(bytes), bytes.byteLength);
}
function textOf(type: u32): string {
  const status = read(type, 0, 1000, OUT, OUT + 4);
  return status === 0 ? String.UTF8.decodeUnsafe(load<usize>(OUT), load<usize>(OUT + 4)) : "status " + status.toString();
}
function known(): string {
  const paths = ["connection\\0id", "source\\0address", "xds\\0cluster_name", "upstream\\0address", "request\\0size", "connection\\0uri_san_peer_certificate", "request\\0method"];
  let names = "";
  for (let i = 0; i < paths.length; i++) {
    const path = String.UTF8.encode(paths[i]);
    if (property(changetype<usize>(path), path.byteLength, OUT, OUT + 4) === 0) names += (names.length > 0 ? " " : "") + paths[i].replace("\\0", ".");
  }
  return names;
}
export function proxy_abi_version_0_2_1(): void {}
export function proxy_on_memory_allocate(size: usize): usize { return heap.alloc(size); }
export function proxy_on_context_create(id: u32, parent: u32): void { newest = id; }
export function proxy_on_new_connection(id: u32): u32 { say("new: " + known()); return 0; }
export function proxy_on_downstream_data(id: u32, size: u32, end: u32): u32 {
  const text = textOf(2);
  say("client " + size.toString() + " " + end.toString() + " " + text);
  if (text.startsWith("?")) say("data: " + known());
  if (text.startsWith("s")) write(2, 0, 2, 0, 0);
  if (text.startsWith("S")) write(2, 0, 1000, 0, 0);
  if (text.startsWith("p")) write(2, 0, 0, X, 1);
  if (text.startsWith("m")) say("middle " + write(2, 1, 0, X, 1).toString());
  if (text.startsWith("t")) period(50);
  if (text.startsWith("!")) resume(2);
  return text.startsWith("h") || text.startsWith("!") ? 1 : 0;
}
export function proxy_on_upstream_data(id: u32, size: u32, end: u32): u32 {
  const text = textOf(3);
  say("server " + size.toString() + " " + end.toString() + " " + text);
  if (text.startsWith("p")) write(3, 0, 0, X, 1);
  return text.startsWith("h") ? 1 : 0;
}
export function proxy_on_tick(root: u32): void {
  become(newest);
  say("tick: " + known());
  say("tick buffer '" + textOf(2) + "' " + write(2, 0, 1, 0, 0).toString());
  if (resume(3) !== 12) say("upstream continued");
  resume(2);
  period(20);
}
export function proxy_on_upstream_connection_close(id: u32, by: u32): void { say("upstream closed " + by.toString()); }
export function proxy_on_downstream_connection_close(id: u32, by: u32): void { say("downstream closed " + by.toString()); }
export function proxy_on_log(id: u32): void { say("log: " + known()); }
export function proxy_on_done(id: u32): u32 { say("done"); return 1; }
export function proxy_on_delete(id: u32): void { say("delete"); }
`;

let probe: WebAssembly.Module;

beforeAll(async () => {
  const { binary, stderr } = await asc.compileString({ "input.ts": PROBE }, { use: ["abort="], runtime: "stub" });
  if (binary === null) throw new Error(stderr.toString());
  probe = new WebAssembly.Module(new Uint8Array(binary));
});

function startProbe(): Host {
  return new Host(probe, { node: REVIEWS });
}

function said(host: Host): string[] {
  return host.logs.splice(0).map(({ text }) => text);
}

const ALWAYS = "connection.id source.address request.size";
const CONNECTED = "connection.id source.address xds.cluster_name upstream.address request.size";
const TLS = { peer: "spiffe://td/ns/a/sa/b", local: "spiffe://td/ns/c/sa/d" };

describe("callbacks", () => {
  test("come in Envoy's order, and each shows what is known by then", () => {
    const host = startProbe();
    const connection = host.connection({ cluster: { name: "c" }, downstreamTls: TLS });
    connection.fromClient("?ping").fromServer("answer").finish();
    const all = `${CONNECTED} connection.uri_san_peer_certificate`;
    expect(said(host)).toEqual([
      `new: ${ALWAYS}`,
      "client 5 0 ?ping",
      `data: ${all}`,
      "server 6 0 answer",
      "client 0 1 ",
      "server 0 1 ",
      "upstream closed 0",
      "downstream closed 1",
      "done",
      `log: ${all}`,
      "delete",
    ]);
    expect([connection.toServer.toString(), connection.toClient.toString()]).toEqual(["?ping", "answer"]);
    expect([connection.isServerToldEnd, connection.isClientToldEnd]).toEqual([true, true]);
  });

  test("of a refused upstream are the close and the log, with the flags and the upstream that was meant", () => {
    const host = startProbe();
    const connection = host.connection({ cluster: { name: "c" }, isConnecting: true }).refuse();
    expect(said(host).at(-2)).toBe(`log: ${CONNECTED}`);
    expect(connection.responseFlags).toBe(0x8020n);
  });
});

describe("what the client sends", () => {
  test.each([
    ["passes", ["abc"], "abc"],
    ["is held as long as the filter says so, and comes again whole", ["h", "i"], ""],
    ["is stripped at the front", ["s1abc"], "abc"],
    ["is stripped no further than to its end", ["Sabc"], ""],
    ["is prepended to", ["pabc"], "Xpabc"],
    ["cannot be changed in the middle", ["mabc"], "mabc"],
    ["goes on after the callback when the filter held and continued it", ["!abc"], "!abc"],
  ])("%s", (_, chunks, toServer) => {
    const connection = startProbe().connection();
    for (const chunk of chunks) connection.fromClient(chunk);
    expect(connection.toServer.toString()).toBe(toServer);
  });

  test("counts again with each read while it is held", () => {
    const connection = startProbe().connection().fromClient("h").fromClient("i").fromClient("j");
    expect(connection.held.toString()).toBe("hij");
    expect(connection.receivedBytes).toBe(6n);
  });

  test("is seen and changed in a tick while it is held; it goes on from there without another callback, its FIN with it", () => {
    const host = startProbe();
    const connection = host.connection().fromClient("t").fromClient("held", { end: true });
    expect(connection.isServerToldEnd).toBe(false);
    said(host);
    host.advance(50);
    expect(said(host)).toEqual([
      `tick: ${ALWAYS.replace(" request", " upstream.address request")}`,
      "tick buffer 'held' 0",
    ]);
    expect(connection.toServer.toString()).toBe("teld");
    expect(connection.isServerToldEnd).toBe(true);
    host.advance(20);
    expect(said(host)[1]).toBe("tick buffer '' 2");
  });
});

describe("what the server sends", () => {
  test("can be prepended to, and cannot be held", () => {
    const connection = startProbe().connection().fromServer("pong");
    expect(connection.toClient.toString()).toBe("Xpong");
    expect(() => connection.fromServer("held")).toThrow("held back");
  });
});

describe("ticks", () => {
  test("come when the period is over, and then with the period that the tick set", () => {
    const host = startProbe();
    host.advance(1_000);
    host.connection().fromClient("t");
    said(host);
    const ticks = [49, 1, 19, 1, 60].map((milliseconds) => {
      host.advance(milliseconds);
      return said(host).filter((text) => text.startsWith("tick:")).length;
    });
    expect(ticks).toEqual([0, 1, 0, 1, 3]);
    expect(host.nowNs - START_TIME_NS).toBe(1_130_000_000n);
  });
});
