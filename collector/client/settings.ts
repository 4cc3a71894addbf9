// Settings of what we call, as whom: what a schema cannot tell of them is checked here.

import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import { quote } from "../error.ts";
import type { ClientTls } from "./client-tls.ts";
import { type Access, Secret } from "./secret.ts";

/** As it stands in the file; values have passed the schema. */
export interface RawAccess {
  /** Headers and credentials may go over plain http. */
  readonly insecure?: boolean;
  readonly headers?: readonly RawHeader[];
  readonly basic_auth?: { readonly username: string; readonly password_file?: string; readonly password_env?: string };
  readonly bearer_token_file?: string;
  readonly bearer_token_env?: string;
}

export interface RawClientTls {
  readonly tls?: { readonly ca?: string; readonly certificate?: string; readonly key?: string };
}

interface RawHeader {
  readonly name: string;
  readonly value?: string;
  readonly file?: string;
  readonly env?: string;
}

export interface Surroundings {
  /** That paths are relative to. */
  readonly folder: string;
  readonly env: Readonly<NodeJS.ProcessEnv>;
}

export interface SettingsFault {
  /** From the section on. */
  readonly path: readonly (string | number)[];
  readonly found: string;
  readonly expected: string;
}

/** A URL that can be asked: http or https, without user, password and fragment. */
export function isServerUrl(text: string): boolean {
  if (!/^https?:\/\//.test(text) || !URL.canParse(text)) return false;
  const { username, password, hash } = new URL(text);
  return username === "" && password === "" && hash === "";
}

export function accessOf(raw: RawAccess, { folder, env }: Surroundings): Access {
  const secret = (file: string | undefined, name: string | undefined) =>
    file === undefined ? Secret.of(env[name ?? ""] ?? "") : Secret.inFile(resolve(folder, file));
  const { headers = [], basic_auth: basic, bearer_token_file: tokenFile, bearer_token_env: tokenName } = raw;
  return {
    headers: headers.map(({ name, value, file, env: variable }) => ({
      name,
      value: value === undefined ? secret(file, variable) : Secret.of(value),
    })),
    basic: basic ? { username: basic.username, password: secret(basic.password_file, basic.password_env) } : null,
    bearer: tokenFile === undefined && tokenName === undefined ? null : secret(tokenFile, tokenName),
  };
}

export function clientTlsOf({ tls }: RawClientTls, folder: string): ClientTls {
  const path = (text: string | undefined) => (text === undefined || text === "" ? null : resolve(folder, text));
  return { ca: path(tls?.ca), certificate: path(tls?.certificate), key: path(tls?.key) };
}

export function* checkAccess(raw: RawAccess, around: Surroundings): Generator<SettingsFault> {
  const { basic_auth: basic, bearer_token_file, bearer_token_env } = raw;
  for (const [index, { value, file, env }] of (raw.headers ?? []).entries()) {
    yield* checkSource(["headers", index], { value, file, env }, around);
  }
  if (basic) {
    const { password_file, password_env } = basic;
    yield* checkSource(["basic_auth"], { password_file, password_env }, around);
  }
  if (bearer_token_file !== undefined || bearer_token_env !== undefined) {
    yield* checkSource([], { bearer_token_file, bearer_token_env }, around);
    if (basic) yield { path: ["basic_auth"], found: "it beside a bearer token", expected: "one of the two" };
  }
}

/** A secret has one source, and that has to be there. */
function* checkSource(
  path: readonly (string | number)[],
  sources: Readonly<Record<string, string | undefined>>,
  { folder, env }: Surroundings,
): Generator<SettingsFault> {
  const given = Object.entries(sources).filter(([, each]) => each !== undefined);
  if (given.length !== 1) {
    const found = given.length === 0 ? "none of them" : given.map(([key]) => key).join(" and ");
    yield { path, found, expected: `one of ${Object.keys(sources).join(", ")}` };
    return;
  }
  const [key, text] = given[0] as [string, string];
  if (key.endsWith("env") && (env[text] ?? "") === "") {
    yield { path: [...path, key], found: `${quote(text)}, which is not set`, expected: "an environment variable" };
  }
  if (key.endsWith("file")) yield* checkFile([...path, key], text, folder);
}

/** What is secret goes out encrypted, or not off this machine. */
export function* checkExposure(raw: RawAccess & { readonly url: string }): Generator<SettingsFault> {
  const { url, insecure, headers = [], basic_auth, bearer_token_file, bearer_token_env } = raw;
  if (!isServerUrl(url) || insecure === true) return; // the schema has a fault for it
  const { protocol, hostname } = new URL(url);
  const isSecret = headers.length > 0 || [basic_auth, bearer_token_file, bearer_token_env].some(Boolean);
  if (protocol === "https:" || !isSecret || /^(localhost|127\.[\d.]+|\[::1\])$/.test(hostname)) return;
  const expected =
    "an https URL, since headers or credentials go with it, or `insecure: true` (whoever is on the way reads them)";
  yield { path: ["url"], found: quote(url), expected };
}

export function* checkClientTls({ tls = {} }: RawClientTls, { folder }: Surroundings): Generator<SettingsFault> {
  const isSet = (key: "ca" | "certificate" | "key") => (tls[key] ?? "") !== "";
  if (isSet("certificate") !== isSet("key")) {
    const found = isSet("key") ? "no certificate" : "no key";
    yield { path: ["tls"], found, expected: "certificate and key, both, or neither" };
  }
  for (const key of ["ca", "certificate", "key"] as const) {
    if (isSet(key)) yield* checkFile(["tls", key], tls[key] as string, folder);
  }
}

function* checkFile(path: readonly (string | number)[], text: string, folder: string): Generator<SettingsFault> {
  try {
    readFileSync(resolve(folder, text));
  } catch (error: unknown) {
    yield { path, found: error instanceof Error ? error.message : String(error), expected: "a file that can be read" };
  }
}
