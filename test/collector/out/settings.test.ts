// The configuration of receivers of metrics: what is read, what is refused, and that no secret is shown by either.

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { inspect } from "node:util";
import { afterAll, describe, expect, it } from "vitest";
import { readAccess } from "../../../collector/client/secret.ts";
import type { Config } from "../../../collector/config/config.ts";
import { loadConfig } from "../../../collector/config/load.ts";
import { CollectorError } from "../../../collector/error.ts";

const folder = mkdtempSync(join(tmpdir(), "meshtally-settings-"));
afterAll(() => rmSync(folder, { recursive: true }));
const PATH = join(folder, "collector.yaml");
writeFileSync(join(folder, "token"), "s3cret-token\n");
writeFileSync(join(folder, "password"), "s3cret-password");

const ENV = { PASSWORD: "s3cret-env" };

function load(text: string): Config {
  writeFileSync(PATH, text);
  return loadConfig({ path: PATH, env: ENV });
}

/** The faults of a receiver at an https URL with these keys, from the key on. */
function faults(keys: string, url = "https://a.example/"): string[] {
  try {
    load(`remote_write: [{ url: "${url}", ${keys} }]`);
    return [];
  } catch (error: unknown) {
    if (!(error instanceof CollectorError)) throw error;
    expect(error.message).not.toContain("s3cret");
    return error.message.split("\n").map((line) => line.replace(/^.*?remote_write\.0\.?/, ""));
  }
}

const headersOf = async (text: string) => {
  const [receiver] = load(text).remoteWrite;
  return (await readAccess(receiver!.access)).headers;
};

describe("remote_write", () => {
  it("has defaults for all but the URL", () => {
    expect(load("remote_write: [{ url: 'http://prometheus:9090/api/v1/write' }]").remoteWrite).toEqual([
      {
        name: "prometheus:9090",
        url: "http://prometheus:9090/api/v1/write",
        access: { headers: [], basic: null, bearer: null },
        tls: { ca: null, certificate: null, key: null },
        intervalMs: 15_000,
        timeoutMs: 30_000,
        maxSamples: 5000,
        queue: { folder: null, maxBytes: 2 ** 26 },
        metrics: "istio_.*|mesh_.*",
        externalLabels: {},
      },
    ]);
  });

  it.each([
    ["a token from a file, without its line end", "bearer_token_file: token", { authorization: "Bearer s3cret-token" }],
    ["a token from the environment", "bearer_token_env: PASSWORD", { authorization: "Bearer s3cret-env" }],
    [
      "a password from a file",
      "basic_auth: { username: u, password_file: password }",
      { authorization: `Basic ${Buffer.from("u:s3cret-password").toString("base64")}` },
    ],
    [
      "a password from the environment",
      "basic_auth: { username: u, password_env: PASSWORD }",
      { authorization: `Basic ${Buffer.from("u:s3cret-env").toString("base64")}` },
    ],
    [
      "headers from anywhere",
      "headers: [{ name: A, value: b }, { name: C, file: token }, { name: D, env: PASSWORD }]",
      { a: "b", c: "s3cret-token", d: "s3cret-env" },
    ],
  ])("takes %s", async (_, keys, headers) => {
    expect(await headersOf(`remote_write: [{ url: "https://a.example/", ${keys} }]`)).toEqual(headers);
  });

  it("reads a file anew each time", async () => {
    const [receiver] = load(`remote_write: [{ url: "https://a.example/", bearer_token_file: token }]`).remoteWrite;
    expect((await readAccess(receiver!.access)).headers).toEqual({ authorization: "Bearer s3cret-token" });
    writeFileSync(join(folder, "token"), "s3cret-token-2");
    expect((await readAccess(receiver!.access)).headers).toEqual({ authorization: "Bearer s3cret-token-2" });
    writeFileSync(join(folder, "token"), "s3cret-token\n");
  });

  it.each([
    ["ftp://a.example/", /^url: found "ftp/],
    ["https://user:s3cret@a.example/", /^url: found "https:\/\/\*\*\*@a.example\/"/],
    ["https://user:s3cret@a.example/?key=s3cret", /^url: found "https:\/\/\*\*\*@a.example\/\?\.\.\."/],
    ["https://", /^url: found/],
  ])("refuses the URL %s", (url, expected) => {
    expect(faults("", url)).toEqual([expect.stringMatching(expected)]);
  });

  it.each([
    ["headers: [{ name: a }]", "headers.0: found none of them, expected one of value, file, env"],
    [
      "headers: [{ name: a, value: s3cret, env: PASSWORD }]",
      "headers.0: found value and env, expected one of value, file, env",
    ],
    [
      "headers: [{ name: a, env: NOT_SET }]",
      'headers.0.env: found "NOT_SET", which is not set, expected an environment variable',
    ],
    ['headers: [{ name: "a b", value: c }]', 'headers.0.name: found "a b", expected a header\'s name'],
    [
      'headers: [{ name: a, value: "s3cret\\n" }]',
      "headers.0.value: found a string that it cannot be, expected a text of printable ASCII",
    ],
    ["headers: { Authorization: s3cret }", "headers: found a section, expected a list of at most 1000 headers"],
    ["headers: [s3cret]", "headers.0: found a string that it cannot be, expected a section with keys"],
    [
      "basic_auth: { username: u, password: s3cret }",
      /^basic_auth\.password: found an unknown key, expected password_\w+ /,
    ],
    ["basic_auth: { username: u }", "basic_auth: found none of them, expected one of password_file, password_env"],
    ["bearer_token_file: nowhere", /^bearer_token_file: found ENOENT: .*nowhere', expected a file that can be read$/],
    [
      "bearer_token_file: token, bearer_token_env: PASSWORD",
      /^: found bearer_token_file and bearer_token_env, expected one of/,
    ],
    [
      "bearer_token_file: token, basic_auth: { username: u, password_env: PASSWORD }",
      "basic_auth: found it beside a bearer token, expected one of the two",
    ],
    ["tls: { key: token }", "tls: found no certificate, expected certificate and key, both, or neither"],
    ["tls: { ca: nowhere }", /^tls\.ca: found ENOENT/],
    ["external_labels: { __name__: a }", /^external_labels\.__name__: found a name that it cannot have/],
    ["external_labels: { le: a }", /^external_labels\.le: found a name that it cannot have/],
    ["external_labels: { a-b: a }", /^external_labels\.a-b: found a name that it cannot have/],
    ["external_labels: { a: 5 }", "external_labels.a: found 5, expected a text"],
    ['metrics: "("', /^metrics: found "\(", expected a regular expression/],
    ["queue: { max_size: 1MiB }", /^queue\.max_size: found "1MiB", expected a size from 16MiB/],
    ["max_samples_per_send: 0", /^max_samples_per_send: found 0/],
    ["urls: a", /^urls: found an unknown key, expected url /],
  ])("refuses %s", (keys, expected) => {
    const [first] = faults(keys);
    if (typeof expected === "string") expect(first).toBe(expected);
    else expect(first).toMatch(expected);
  });

  it.each([
    ["bearer_token_env: PASSWORD", "http://a.example/", false],
    ["headers: [{ name: a, value: b }]", "http://192.0.2.1/", false],
    ["bearer_token_env: PASSWORD, insecure: true", "http://a.example/", true],
    ["bearer_token_env: PASSWORD", "http://127.0.0.1:9090/", true],
    ["bearer_token_env: PASSWORD", "http://localhost/", true],
    ["bearer_token_env: PASSWORD", "http://[::1]/", true],
    ["bearer_token_env: PASSWORD", "http://127.0.0.1.evil.example/", false],
    ["name: a", "http://a.example/", true],
  ])("with %s takes %s: %s", (keys, url, isTaken) => {
    const found = faults(keys, url);
    if (isTaken) expect(found).toEqual([]);
    else expect(found).toEqual([expect.stringContaining("expected an https URL")]);
  });

  it("wants names and folders of their own", () => {
    const two = (keys: string) => () =>
      load(`remote_write: [{ url: "http://a/x", ${keys} }, { url: "http://a/y", ${keys} }]`);
    expect(two("interval: 1s")).toThrow('remote_write.1.name: found "a" a second time, expected a name of its own');
    const shared =
      'remote_write: [{ url: "http://a", queue: { folder: q } }, { url: "http://b", queue: { folder: ./q } }]';
    expect(() => load(shared)).toThrow('remote_write.1.queue.folder: found "./q" a second time');
  });

  it("shows no secret when it is written out", () => {
    const config = load(
      'remote_write: [{ url: "https://a.example/", headers: [{ name: a, value: s3cret-value }, { name: b, env: PASSWORD }] }]',
    );
    for (const text of [
      JSON.stringify(config),
      inspect(config, { depth: 20 }),
      `${config.remoteWrite[0]?.access.headers[0]?.value}`,
    ]) {
      expect(text).not.toContain("s3cret");
    }
  });
});

it("the examples of docs/remote-write.md are valid", () => {
  const docs = readFileSync(resolve(import.meta.dirname, "../../../docs/remote-write.md"), "utf8");
  const examples = [...docs.matchAll(/```yaml\n(.*?)```/gs)].map((match) => match[1] as string);
  expect(examples.length).toBeGreaterThan(1);
  for (const text of examples) load(text.replaceAll("/var/run/secrets/metrics/", "")); // the token is here
});
