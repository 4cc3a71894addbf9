// A certificate, its key and the authorities of clients: PEM files -> what a TLS server is given, checked. Nothing of a private key
// goes into a message: what OpenSSL says of one is left out.

import { createPrivateKey, type KeyObject, X509Certificate } from "node:crypto";
import { readFileSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { createSecureContext } from "node:tls";

/** Paths. */
export interface TlsFiles {
  /** The server's certificate, and behind it those between it and its authority. */
  readonly certificate: string;
  readonly key: string;
  /** Authorities of which clients must have a certificate; null: clients need none. */
  readonly clientCa: string | null;
}
type TlsFile = keyof TlsFiles;

/** What the files hold; an error in the place of one that cannot be read. */
export type TlsContents = Readonly<Record<TlsFile, Buffer | Error | null>>;

/** What a server is given: `tls.createServer`, `setSecureContext`. */
interface SecureContextOptions {
  readonly cert: Buffer;
  readonly key: Buffer;
  readonly ca?: Buffer;
  readonly minVersion: "TLSv1.2";
}

export interface Credentials {
  readonly ok: true;
  readonly context: SecureContextOptions;
  /** When the server's certificate expires, Unix ms. */
  readonly expiresMs: number;
}

export interface CredentialsFault {
  readonly ok: false;
  readonly reason: "unreadable" | "malformed" | "key_mismatch";
  readonly file: TlsFile;
  readonly found: string;
  readonly expected: string;
}

const CERTIFICATE = /^-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----\s*$/gm;
const BEGIN_CERTIFICATE = /-----BEGIN CERTIFICATE-----/g;

export function readTlsFilesSync({ certificate, key, clientCa }: TlsFiles): TlsContents {
  return {
    certificate: readSync(certificate),
    key: readSync(key),
    clientCa: clientCa === null ? null : readSync(clientCa),
  };
}

export async function readTlsFiles({ certificate, key, clientCa }: TlsFiles): Promise<TlsContents> {
  const read = (path: string) => readFile(path).catch(errorOf);
  const [cert, secret, ca] = await Promise.all([
    read(certificate),
    read(key),
    clientCa === null ? null : read(clientCa),
  ]);
  return { certificate: cert, key: secret, clientCa: ca };
}

/** The credentials that the files hold, or the first fault. Total: it never throws. */
export function checkCredentials({ certificate, key, clientCa }: TlsContents): Credentials | CredentialsFault {
  const own = readCertificates("certificate", certificate);
  if (!own.ok) return own;
  const secret = readKey(key);
  if (!secret.ok) return secret;
  const authorities = clientCa === null ? null : readCertificates("clientCa", clientCa);
  if (authorities !== null && !authorities.ok) return authorities;
  if (!own.first.checkPrivateKey(secret.key)) {
    const expected = "that of the first certificate in its file";
    return { ok: false, reason: "key_mismatch", file: "key", found: "the key of another certificate", expected };
  }
  const context = {
    cert: own.bytes,
    key: secret.bytes,
    ...(authorities === null ? {} : { ca: authorities.bytes }),
    minVersion: "TLSv1.2",
  } as const;
  const refusal = refusalOf(context);
  if (refusal !== null) {
    const expected = "a certificate that TLS takes";
    return { ok: false, reason: "malformed", file: "certificate", found: `one that it refuses (${refusal})`, expected };
  }
  return { ok: true, context, expiresMs: Date.parse(own.first.validTo) };
}

type Readable<Value> = ({ readonly ok: true; readonly bytes: Buffer } & Value) | CredentialsFault;

function readCertificates(
  file: TlsFile,
  content: Buffer | Error | null,
): Readable<{ readonly first: X509Certificate }> {
  const expected = "certificates in PEM";
  if (!Buffer.isBuffer(content)) return unreadable(file, content, expected);
  const text = content.toString("latin1");
  const blocks = text.match(CERTIFICATE) ?? [];
  const fault = (found: string) => ({ ok: false, reason: "malformed", file, found, expected }) as const;
  if (blocks.length !== (text.match(BEGIN_CERTIFICATE) ?? []).length)
    return fault("a certificate that is cut off, or not on lines of its own");
  let first: X509Certificate | undefined;
  for (const [index, block] of blocks.entries()) {
    try {
      const certificate = new X509Certificate(block);
      first ??= certificate;
    } catch (error: unknown) {
      return fault(`certificate ${index + 1} that cannot be parsed (${errorOf(error).message})`);
    }
  }
  return first === undefined ? fault("no certificate") : { ok: true, bytes: content, first };
}

function readKey(content: Buffer | Error | null): Readable<{ readonly key: KeyObject }> {
  const expected = "a private key in PEM, not encrypted";
  if (!Buffer.isBuffer(content)) return unreadable("key", content, expected);
  try {
    return { ok: true, bytes: content, key: createPrivateKey(content) };
  } catch {
    return { ok: false, reason: "malformed", file: "key", found: "none that can be read", expected };
  }
}

function unreadable(file: TlsFile, error: Error | null, expected: string): CredentialsFault {
  return { ok: false, reason: "unreadable", file, found: error?.message ?? "no file", expected };
}

/** Why OpenSSL does not take it, a key too short for instance; null when it does. */
function refusalOf(context: SecureContextOptions): string | null {
  try {
    createSecureContext(context);
    return null;
  } catch (error: unknown) {
    return errorOf(error).message;
  }
}

function readSync(path: string): Buffer | Error {
  try {
    return readFileSync(path);
  } catch (error: unknown) {
    return errorOf(error);
  }
}

function errorOf(error: unknown): Error {
  return error instanceof Error ? error : new Error(String(error));
}
