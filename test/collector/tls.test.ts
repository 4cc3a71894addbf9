// Real handshakes with the gRPC and the HTTP port: certificates replaced while streams go on, and clients that are refused.

import { X509Certificate } from "node:crypto";
import {
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from "node:fs";
import { connect as connectHttp2 } from "node:http2";
import { connect as connectTcp } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type ConnectionOptions, connect } from "node:tls";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { loadConfig } from "../../collector/config/load.ts";
import { CollectorError } from "../../collector/error.ts";
import { silentLog } from "../../collector/log.ts";
import { startCollector } from "../../collector/pipeline.ts";
import { GrpcServer } from "../../collector/receiver/grpc.ts";
import { SelfMetrics } from "../../collector/self.ts";
import type { TlsFiles } from "../../collector/tls/credentials.ts";
import { ServerTls } from "../../collector/tls/server-tls.ts";
import type { CertificateFiles } from "../../demo/certificates.ts";
import { writeCertificates } from "../fixtures/certificates.ts";

const SERVICE = "test.Service";
const POLL_MS = 10;
const ROOT = mkdtempSync(join(tmpdir(), "meshtally-tls-"));
afterAll(() => rmSync(ROOT, { recursive: true }));

/** What two authorities have issued. */
type Issued = Record<"server" | "client", CertificateFiles>;
let first: Issued;
let second: Issued;
beforeAll(async () => {
  const names = { server: [{ type: "dns", value: "localhost" }], client: [{ type: "dns", value: "proxy" }] } as const;
  const issue = (name: string) => {
    mkdirSync(join(ROOT, name));
    return writeCertificates(names, join(ROOT, name));
  };
  [first, second] = [await issue("first"), await issue("second")];
});

/** A folder as Kubernetes mounts a secret: `tls.crt` -> `..data/tls.crt`, `..data` -> `..1`, which one rename swaps. */
class Secret {
  private static count = 0;
  private readonly folder = join(ROOT, `secret-${Secret.count++}`);
  private versions = 0;
  readonly files: TlsFiles;

  constructor(certificate: Buffer, key: Buffer, authority: Buffer | null = null) {
    mkdirSync(this.folder);
    this.swap(certificate, key, authority);
    for (const name of ["tls.crt", "tls.key", "ca.crt"]) symlinkSync(join("..data", name), join(this.folder, name));
    this.files = {
      certificate: join(this.folder, "tls.crt"),
      key: join(this.folder, "tls.key"),
      clientCa: authority === null ? null : join(this.folder, "ca.crt"),
    };
  }

  swap(certificate: Buffer, key: Buffer, authority: Buffer | null = null): void {
    const version = `..${this.versions++}`;
    mkdirSync(join(this.folder, version));
    writeFileSync(join(this.folder, version, "tls.crt"), certificate);
    writeFileSync(join(this.folder, version, "tls.key"), key);
    if (authority !== null) writeFileSync(join(this.folder, version, "ca.crt"), authority);
    symlinkSync(version, join(this.folder, "..tmp"));
    renameSync(join(this.folder, "..tmp"), join(this.folder, "..data"));
  }

  /** As if somebody took a file away. */
  lose(name: string): void {
    unlinkSync(join(this.folder, "..data", name));
  }
}

function pems({ certificate, privateKey }: CertificateFiles): [Buffer, Buffer] {
  return [readFileSync(certificate), readFileSync(privateKey)];
}

function authorityOf({ server }: Issued): Buffer {
  return readFileSync(server.authority);
}

const stops: (() => unknown)[] = [];
afterEach(async () => {
  for (const stop of stops.splice(0).reverse()) await stop();
});

async function start(files: TlsFiles) {
  const self = new SelfMetrics("test");
  const lines: string[] = [];
  const write = (fields: object, message: string) => lines.push(`${message} ${JSON.stringify(fields)}`);
  const log = { info: write, warn: write, error: write };
  const tls = new ServerTls({ listener: "grpc", files, pollMs: POLL_MS, self, log });
  const server = new GrpcServer({ address: "127.0.0.1:0", tls, log });
  const taken: string[] = [];
  server.addClientStream(SERVICE, "Send", () => ({
    message: (bytes) => taken.push(bytes.toString()),
    end: (how) => taken.push(how),
  }));
  const port = await server.start();
  stops.push(() => server.stop(0));
  return { self, lines, server, taken, port };
}

interface Outcome {
  /** The server's certificate; "" when there was no connection. */
  readonly certificate: string;
  readonly protocol: string | null;
  /** Of the connection, or why there was none. */
  readonly error: string;
  readonly session: Buffer | undefined;
  readonly isResumed: boolean;
}

/** One handshake, and what comes of it: a client that the server refuses learns it only afterwards. */
function handshake(port: number, options: ConnectionOptions = {}): Promise<Outcome> {
  return new Promise((resolve) => {
    let session: Buffer | undefined;
    let certificate = "";
    let protocol: string | null = null;
    let isResumed = false;
    const socket = connect({
      port,
      host: "127.0.0.1",
      servername: "localhost",
      ALPNProtocols: ["h2"],
      rejectUnauthorized: false,
      ...options,
    });
    const finish = (error: string) => {
      resolve({ certificate, protocol, error, session, isResumed });
      socket.destroy();
    };
    socket.on("session", (bytes) => {
      session = bytes;
    });
    socket.on("secureConnect", () => {
      certificate = socket.getPeerX509Certificate()?.fingerprint256 ?? "";
      protocol = socket.getProtocol();
      isResumed = socket.isSessionReused();
    });
    // HTTP/2 servers speak first: SETTINGS.
    socket.on("data", () => setImmediate(finish, ""));
    socket.on("error", (error: NodeJS.ErrnoException) => finish(error.code ?? error.message));
    socket.on("close", () => finish("closed"));
  });
}

function fingerprintOf({ certificate }: CertificateFiles): string {
  return new X509Certificate(readFileSync(certificate)).fingerprint256;
}

function clientOf({ client }: Issued): ConnectionOptions {
  const [cert, key] = pems(client);
  return { cert, key };
}

async function until(isTrue: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await isTrue())) await new Promise((resolve) => setTimeout(resolve, 5));
}

async function counted(self: SelfMetrics, name: string): Promise<Record<string, number>> {
  const metric = (await self.registry.getMetricsAsJSON()).find((each) => each.name === name);
  const samples = (metric?.values ?? []) as { value: number; labels: Record<string, string> }[];
  return Object.fromEntries(
    samples.filter(({ value }) => value !== 0).map(({ value, labels }) => [Object.values(labels).join(), value]),
  );
}

function frame(text: string): Buffer {
  return Buffer.concat([Buffer.from([0, 0, 0, 0, text.length]), Buffer.from(text)]);
}

test("a certificate that is swapped serves the next connection, and the stream that is open goes on", async () => {
  const secret = new Secret(...pems(first.server));
  const { self, taken, port } = await start(secret.files);
  const session = connectHttp2(`https://localhost:${port}`, { ca: authorityOf(first), host: "127.0.0.1" });
  stops.push(() => session.destroy());
  const stream = session.request({
    ":method": "POST",
    ":path": `/${SERVICE}/Send`,
    "content-type": "application/grpc",
  });
  stream.resume();
  stream.write(frame("before"));
  await until(() => taken.length === 1);
  expect((await handshake(port)).certificate).toBe(fingerprintOf(first.server));

  secret.swap(...pems(second.server));
  await until(async () => (await handshake(port)).certificate === fingerprintOf(second.server));
  stream.end(frame("after"));
  await until(() => taken.length === 3);
  expect(taken).toEqual(["before", "after", "completed"]);
  expect(await counted(self, "meshtally_tls_reloads_total")).toEqual({ "grpc,ok": 1 });
  const { validTo } = new X509Certificate(readFileSync(second.server.certificate));
  expect(await counted(self, "meshtally_tls_certificate_expiry_timestamp_seconds")).toEqual({
    grpc: Date.parse(validTo) / 1000,
  });
});

test("a pair that is of no use leaves the former one in use; each change is told and counted once", async () => {
  const secret = new Secret(...pems(first.server));
  const { self, lines, port } = await start(secret.files);
  const [certificate, key] = pems(second.server);
  const results = () => counted(self, "meshtally_tls_reloads_total");
  const settle = () => new Promise((resolve) => setTimeout(resolve, 5 * POLL_MS));

  secret.swap(certificate, pems(first.server)[1]); // the key of the certificate before
  await until(async () => "grpc,key_mismatch" in (await results()));
  secret.lose("tls.key");
  await until(async () => "grpc,unreadable" in (await results()));
  secret.swap(certificate.subarray(0, 200), key); // half-written
  await until(async () => "grpc,malformed" in (await results()));
  await settle();
  expect(await results()).toEqual({ "grpc,key_mismatch": 1, "grpc,malformed": 1, "grpc,unreadable": 1 });
  expect((await handshake(port)).certificate).toBe(fingerprintOf(first.server));
  const faults = lines.filter((line) => line.startsWith("certificate not replaced"));
  expect(faults).toHaveLength(3);
  expect(faults[0]).toContain("tls.key: found the key of another certificate, expected that of the first");
  expect(faults[1]).toContain("tls.key: found ENOENT");
  expect(faults[2]).toContain(
    "tls.crt: found a certificate that is cut off, or not on lines of its own, expected certificates in PEM",
  );

  secret.swap(certificate, key);
  await until(async () => (await handshake(port)).certificate === fingerprintOf(second.server));
  for (const line of lines) expect(line).not.toContain("PRIVATE KEY");
  const secrets = key
    .toString()
    .split("\n")
    .filter((line) => line.length > 40);
  for (const line of secrets) expect(lines.join()).not.toContain(line);
});

test("with client_ca only clients of that authority are served; why others are not is counted and told", async () => {
  const { self, lines, port } = await start(new Secret(...pems(first.server), authorityOf(first)).files);
  expect((await handshake(port, clientOf(first))).error).toBe("");
  expect((await handshake(port)).error).not.toBe("");
  expect((await handshake(port, clientOf(second))).error).not.toBe("");
  const distrusting = { ...clientOf(first), ca: authorityOf(second), rejectUnauthorized: true };
  expect((await handshake(port, distrusting)).error).toMatch(/UNABLE_TO_VERIFY|CERT/);
  connectTcp(port, "127.0.0.1").end("GET / HTTP/1.1\r\n\r\n");
  connectTcp(port, "127.0.0.1").end(); // a health check
  const failures = () => counted(self, "meshtally_tls_handshakes_failed_total");
  await until(async () => Object.values(await failures()).reduce((sum, each) => sum + each, 0) === 5);
  expect(await failures()).toMatchObject({ "grpc,client_refused": 2, "grpc,protocol": 1 });
  const told = lines.filter((line) => line.startsWith("TLS handshake failed"));
  expect(told.some((line) => line.includes('"reason":"client_refused"'))).toBe(true);
  expect(told.some((line) => line.includes('"reason":"gone"'))).toBe(false);
});

test("another client_ca refuses those of the former one, those too that would go on with a session from before", async () => {
  const secret = new Secret(...pems(first.server), authorityOf(first));
  const { port } = await start(secret.files);
  for (const maxVersion of ["TLSv1.2", "TLSv1.3"] as const) {
    const { session } = await handshake(port, { ...clientOf(first), maxVersion });
    expect(session).toBeDefined();
    const again = { ...clientOf(first), maxVersion, ...(session === undefined ? {} : { session }) };
    expect((await handshake(port, again)).isResumed).toBe(true);
    secret.swap(...pems(first.server), authorityOf(second));
    await until(async () => (await handshake(port, clientOf(second))).error === "");
    const outcome = await handshake(port, again);
    expect(outcome.error).not.toBe("");
    secret.swap(...pems(first.server), authorityOf(first));
    await until(async () => (await handshake(port, clientOf(first))).error === "");
  }
});

test("TLS 1.1 is refused, 1.2 and 1.3 are served, after a swap too", async () => {
  const secret = new Secret(...pems(first.server));
  const { self, port } = await start(secret.files);
  const old = { minVersion: "TLSv1", maxVersion: "TLSv1.1", ciphers: "DEFAULT@SECLEVEL=0" } as const;
  for (const expected of [first, second]) {
    if (expected === second) secret.swap(...pems(second.server));
    await until(async () => (await handshake(port)).certificate === fingerprintOf(expected.server));
    expect((await handshake(port, old)).error).not.toBe("");
    expect((await handshake(port, { maxVersion: "TLSv1.2" })).protocol).toBe("TLSv1.2");
    expect((await handshake(port)).protocol).toBe("TLSv1.3");
  }
  expect(await counted(self, "meshtally_tls_handshakes_failed_total")).toEqual({ "grpc,protocol": 2 });
});

test("a client that begins no handshake does not hold up the end", async () => {
  const { server, port } = await start(new Secret(...pems(first.server)).files);
  const socket = connectTcp(port, "127.0.0.1");
  await new Promise((resolve) => socket.once("connect", resolve));
  const closed = new Promise((resolve) => socket.once("close", resolve));
  await server.stop(0);
  await closed;
});

test("an address is taken as with plaintext: IPv6 too, and one that is taken is said at the start", async () => {
  const { files } = new Secret(...pems(first.server));
  const listen = (address: string) => {
    const tls = new ServerTls({ listener: "grpc", files, self: new SelfMetrics("test"), log: silentLog });
    const server = new GrpcServer({ address, tls, log: silentLog });
    stops.push(() => server.stop(0));
    return server.start();
  };
  const port = await listen("[::1]:0");
  expect((await handshake(port, { host: "::1" })).certificate).toBe(fingerprintOf(first.server));
  await expect(listen(`[::1]:${port}`)).rejects.toThrow(`cannot listen for gRPC on [::1]:${port}`);
});

test("files that are of no use at the start are a fault of the configuration", () => {
  const files = { ...new Secret(pems(first.server)[0], pems(second.server)[1]).files };
  const create = () => new ServerTls({ listener: "grpc", files, self: new SelfMetrics("test"), log: silentLog });
  expect(create).toThrow(CollectorError);
  expect(create).toThrow(`${files.key}: found the key of another certificate`);
});

test("the whole collector serves both ports over TLS, and /metrics says when their certificates expire", async () => {
  const defaults = loadConfig({ path: null, env: {} });
  const address = { host: "127.0.0.1", port: 0 };
  const tls = new Secret(...pems(first.server)).files;
  const mutual = new Secret(...pems(second.server), authorityOf(second)).files;
  const grpc = { ...defaults.grpc, address, tls: mutual };
  const config = { ...defaults, grpc, http: { address, tls }, shutdown: { drainMs: 100 } };
  const collector = await startCollector(config, () => silentLog);
  stops.push(() => collector.stop());
  const portOf = (text: string) => Number(text.split(":").at(-1));
  expect((await handshake(portOf(collector.grpcAddress), clientOf(second))).certificate).toBe(
    fingerprintOf(second.server),
  );
  const text = await get(portOf(collector.httpAddress), "/metrics");
  expect(text).toMatch(/^meshtally_tls_certificate_expiry_timestamp_seconds\{listener="grpc"\} \d{10}$/m);
  expect(text).toMatch(/^meshtally_tls_certificate_expiry_timestamp_seconds\{listener="http"\} \d{10}$/m);
  expect(text).toContain('meshtally_tls_handshakes_failed_total{listener="http",reason="gone"} 0\n');
  const silent = connectTcp(portOf(collector.httpAddress), "127.0.0.1");
  await new Promise((resolve) => silent.once("connect", resolve));
  const startedMs = performance.now();
  await collector.stop();
  stops.pop();
  expect(performance.now() - startedMs).toBeLessThan(5000);
});

/** Over HTTPS, by a client that knows the first authority. */
function get(port: number, path: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect({ port, host: "127.0.0.1", servername: "localhost", ca: authorityOf(first) }, () =>
      socket.write(`GET ${path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n`),
    );
    let text = "";
    socket.on("data", (bytes) => {
      text += bytes.toString();
    });
    socket.on("error", reject);
    socket.on("end", () => resolve(text));
  });
}
