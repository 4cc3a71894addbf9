// Targets and the servers that name them over TLS, with the certificates of `scrape.tls` and as whom `scrape.http_sd` says.

import { copyFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import type { IncomingMessage } from "node:http";
import { createServer } from "node:https";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TLSSocket } from "node:tls";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { loadConfig } from "../../collector/config/load.ts";
import { CollectorError } from "../../collector/error.ts";
import { silentLog } from "../../collector/log.ts";
import { type Collector, startCollector } from "../../collector/pipeline.ts";
import type { CertificateFiles } from "../../demo/certificates.ts";
import { writeCertificates } from "../fixtures/certificates.ts";

const folder = mkdtempSync(join(tmpdir(), "meshtally-scrape-tls-"));
const configFile = join(folder, "collector.yaml");
let issued: Record<"server" | "client", CertificateFiles>;
let strangers: Record<"client", CertificateFiles>;

beforeAll(async () => {
  issued = await writeCertificates({ server: [{ type: "dns", value: "localhost" }], client: [] }, folder);
  const other = mkdtempSync(join(folder, "other-"));
  strangers = await writeCertificates({ client: [] }, other);
  writeFileSync(join(folder, "token"), "s3cret\n");
});
afterAll(() => rmSync(folder, { recursive: true }));

const closers: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

interface Asked {
  readonly path: string;
  readonly client: string | undefined;
  readonly authorization: string | undefined;
}

/** Names itself as a target, and is one; whoever has no certificate of the authority is let nowhere. */
async function startServer(): Promise<{ url: string; asked: Asked[] }> {
  const asked: Asked[] = [];
  const { certificate, privateKey, authority } = issued.server;
  const options = {
    cert: readFileSync(certificate),
    key: readFileSync(privateKey),
    ca: readFileSync(authority),
    requestCert: true,
    rejectUnauthorized: true,
  };
  const server = createServer(options, (request: IncomingMessage, response) => {
    const path = request.url?.split("?")[0] ?? "";
    const client = (request.socket as TLSSocket).getPeerCertificate().subject?.CN;
    asked.push({ path, client: String(client), authorization: request.headers.authorization });
    const { port } = server.address() as AddressInfo;
    const groups = [{ targets: [`localhost:${port}`], labels: { __scheme__: "https" } }];
    if (path === "/envoys") response.setHeader("content-type", "application/json").end(JSON.stringify(groups));
    else response.setHeader("content-type", "text/plain").end("# nothing yet\n");
  });
  await new Promise<void>((resolve) => server.listen(0, "localhost", resolve));
  closers.push(() => {
    server.closeAllConnections();
    server.close();
  });
  return { url: `https://localhost:${(server.address() as AddressInfo).port}`, asked };
}

function use(files: { ca: string; certificate: string; key: string }): void {
  for (const [name, from] of Object.entries(files)) copyFileSync(from, join(folder, `in-use-${name}.pem`));
}

async function start(url: string, tls: string, told: string[] = []): Promise<Collector> {
  writeFileSync(
    configFile,
    `
grpc: { address: "127.0.0.1:0" }
http: { address: "127.0.0.1:0" }
scrape:
  interval: 50ms
  ${tls}
  http_sd: { urls: ["${url}/envoys"], interval: 50ms, bearer_token_file: token }
`,
  );
  const error = (_fields: object, message: string) => told.push(message);
  const collector = await startCollector(loadConfig({ path: configFile, env: {} }), () => ({ ...silentLog, error }));
  closers.push(() => collector.stop());
  return collector;
}

const IN_USE = "tls: { ca: in-use-ca.pem, certificate: in-use-certificate.pem, key: in-use-key.pem }";

async function count(collector: Collector, line: RegExp): Promise<number> {
  const text = await (await fetch(`http://${collector.httpAddress}/metrics`)).text();
  return Number(line.exec(text)?.[1] ?? 0);
}
const UNREADABLE = /^meshtally_scrape_discovery_total\{source="http_sd",result="unreadable"\} (\d+)/m;

describe("over TLS", () => {
  it("targets and servers that name them see our certificate, and the token only the latter", async () => {
    const { url, asked } = await startServer();
    use({ ca: issued.client.authority, certificate: issued.client.certificate, key: issued.client.privateKey });
    const collector = await start(url, IN_USE);
    await expect.poll(() => asked.some(({ path }) => path === "/stats/prometheus"), { timeout: 10_000 }).toBe(true);
    for (const { path, client, authorization } of asked) {
      expect(client).toBe("client");
      expect(authorization).toBe(path === "/envoys" ? "Bearer s3cret" : undefined);
    }
    expect(await count(collector, UNREADABLE)).toBe(0);
  });

  it("nobody is asked whose authority is not known", async () => {
    const { url, asked } = await startServer();
    const collector = await start(url, "");
    await expect.poll(() => count(collector, UNREADABLE), { timeout: 10_000 }).toBeGreaterThan(1);
    expect(asked).toEqual([]);
  });

  it("certificates are replaced without a restart, and those of no use leave the former ones in force", async () => {
    const { url, asked } = await startServer();
    use({
      ca: strangers.client.authority,
      certificate: strangers.client.certificate,
      key: strangers.client.privateKey,
    });
    const told: string[] = [];
    const collector = await start(url, IN_USE, told);
    await expect.poll(() => count(collector, UNREADABLE), { timeout: 10_000 }).toBeGreaterThan(1);
    expect(asked).toEqual([]);
    use({ ca: issued.client.authority, certificate: issued.client.certificate, key: issued.client.privateKey });
    await expect.poll(() => asked.length, { timeout: 10_000 }).toBeGreaterThan(2);
    use({ ca: issued.client.authority, certificate: issued.client.certificate, key: strangers.client.privateKey });
    await expect
      .poll(() => told.filter((message) => /of no use; the former/.test(message)), { timeout: 10_000 })
      .not.toEqual([]);
    const before = asked.length;
    await expect.poll(() => asked.length, { timeout: 10_000 }).toBeGreaterThan(before + 2);
  });
});

describe("the configuration", () => {
  const faults = (text: string): string[] => {
    writeFileSync(configFile, text);
    try {
      loadConfig({ path: configFile, env: {} });
      return [];
    } catch (error: unknown) {
      if (!(error instanceof CollectorError)) throw error;
      return error.message.split("\n").map((line) => line.replace(/^.*?(?=scrape\.)/, ""));
    }
  };

  it.each([
    [
      "a token over plain http to another machine",
      'http_sd: { urls: ["https://a.example/", "http://a.example/"], bearer_token_file: token }',
      /^scrape\.http_sd\.urls\.1: found "http:\/\/a\.example\/", expected an https URL/,
    ],
    [
      "two ways to say who we are",
      'http_sd: { urls: ["https://a.example/"], bearer_token_file: token, basic_auth: { username: u, password_file: token } }',
      /^scrape\.http_sd\.basic_auth: found it beside a bearer token/,
    ],
    [
      "a token that is not there",
      'http_sd: { urls: ["https://a.example/"], bearer_token_file: nowhere }',
      /^scrape\.http_sd\.bearer_token_file: found ENOENT/,
    ],
    [
      "a certificate without its key",
      "tls: { certificate: token }",
      /^scrape\.tls: found no key, expected certificate and key/,
    ],
    ["a file that is not there", "tls: { ca: nowhere }", /^scrape\.tls\.ca: found ENOENT/],
  ])("refuses %s", (_case, keys, expected) => {
    expect(faults(`scrape: { ${keys} }`)).toEqual([expect.stringMatching(expected)]);
  });

  it("takes a token over plain http where it says so, and on this machine", () => {
    expect(
      faults('scrape: { http_sd: { urls: ["http://a.example/"], bearer_token_file: token, insecure: true } }'),
    ).toEqual([]);
    expect(faults('scrape: { http_sd: { urls: ["http://127.0.0.1:1/"], bearer_token_file: token } }')).toEqual([]);
  });
});
