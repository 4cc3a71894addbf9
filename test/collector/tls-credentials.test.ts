// What PEM files may hold, and what is said of those that are of no use.

import { createPrivateKey, generateKeyPairSync } from "node:crypto";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { checkCredentials, readTlsFiles, readTlsFilesSync, type TlsFiles } from "../../collector/tls/credentials.ts";
import { writeCertificates } from "../fixtures/certificates.ts";

const folder = mkdtempSync(join(tmpdir(), "meshtally-credentials-"));
afterAll(() => rmSync(folder, { recursive: true }));

let certificate: string;
let key: string;
let otherCertificate: string;
let authority: string;
beforeAll(async () => {
  const one = await writeCertificates({ server: [], other: [] }, folder);
  certificate = readFileSync(one.server.certificate, "utf8");
  key = readFileSync(one.server.privateKey, "utf8");
  otherCertificate = readFileSync(one.other.certificate, "utf8");
  authority = readFileSync(one.server.authority, "utf8");
});

/** Of files that hold these texts; one that is undefined does not exist. */
function check(certificate?: string, key?: string, clientCa: string | null | undefined = null) {
  const place = mkdtempSync(join(folder, "case-"));
  mkdirSync(place, { recursive: true });
  const files: TlsFiles = {
    certificate: join(place, "tls.crt"),
    key: join(place, "tls.key"),
    clientCa: clientCa === null ? null : join(place, "ca.crt"),
  };
  if (certificate !== undefined) writeFileSync(files.certificate, certificate);
  if (key !== undefined) writeFileSync(files.key, key);
  if (clientCa) writeFileSync(join(place, "ca.crt"), clientCa);
  return checkCredentials(readTlsFilesSync(files));
}

it("takes a certificate with its key, text around them and a chain behind it included", () => {
  const found = check(
    `subject=server\n${certificate}\n${authority}`,
    `# key\n${key}`,
    `${authority}\n${otherCertificate}`,
  );
  expect(found.ok).toBe(true);
  if (!found.ok) return;
  expect(found.expiresMs).toBeGreaterThan(Date.now());
  expect(found.context.minVersion).toBe("TLSv1.2");
  expect(found.context.ca?.toString()).toContain("CERTIFICATE");
});

it("reads the same with and without waiting", async () => {
  const files = { certificate: join(folder, "server.pem"), key: join(folder, "none"), clientCa: null };
  const waited = await readTlsFiles(files);
  expect(waited).toEqual(readTlsFilesSync(files));
  expect(waited.key).toBeInstanceOf(Error);
});

it("names the first file that is of no use, why, and what was expected", () => {
  const encrypted = createPrivateKey(key).export({
    type: "pkcs8",
    format: "pem",
    cipher: "aes-256-cbc",
    passphrase: "p",
  });
  const weak = generateKeyPairSync("rsa", { modulusLength: 512 }).privateKey.export({ type: "pkcs8", format: "pem" });
  const pem = "certificates in PEM";
  const cutOff = "a certificate that is cut off, or not on lines of its own";
  const secret = "a private key in PEM, not encrypted";
  const cases: [ReturnType<typeof check>, string, string, string | RegExp, string][] = [
    [check(undefined, key), "unreadable", "certificate", /^ENOENT: .*tls\.crt/, pem],
    [check(certificate, undefined), "unreadable", "key", /^ENOENT/, secret],
    [check(certificate, key, ""), "unreadable", "clientCa", /^ENOENT/, pem],
    [check("", key), "malformed", "certificate", "no certificate", pem],
    [check(key, key), "malformed", "certificate", "no certificate", pem],
    [check(certificate.slice(0, -40), key), "malformed", "certificate", cutOff, pem],
    [check(certificate, key, `${authority.trim()}${otherCertificate}`), "malformed", "clientCa", cutOff, pem],
    [check(certificate.replace(/\nM/, "\nN"), key), "malformed", "certificate", /^certificate 1 that cannot be/, pem],
    [
      check(`${certificate}\n${authority.replace(/\nM/, "\nN")}`, key),
      "malformed",
      "certificate",
      /^certificate 2/,
      pem,
    ],
    [check(certificate, ""), "malformed", "key", "none that can be read", secret],
    [check(certificate, certificate), "malformed", "key", "none that can be read", secret],
    [check(certificate, key.slice(0, 100)), "malformed", "key", "none that can be read", secret],
    [check(certificate, encrypted.toString()), "malformed", "key", "none that can be read", secret],
    [check(certificate, key, key), "malformed", "clientCa", "no certificate", pem],
    [
      check(otherCertificate, key),
      "key_mismatch",
      "key",
      "the key of another certificate",
      "that of the first certificate in its file",
    ],
    [
      check(certificate, weak.toString()),
      "key_mismatch",
      "key",
      "the key of another certificate",
      "that of the first certificate in its file",
    ],
  ];
  for (const [fault, reason, file, found, expected] of cases) {
    const text = typeof found === "string" ? found : expect.stringMatching(found);
    expect(fault).toEqual({ ok: false, reason, file, found: text, expected });
  }
});

it("repeats nothing of a key", () => {
  const lines = key.split("\n").filter((line) => line.length > 20 && !line.startsWith("-"));
  for (const fault of [check(certificate, key.slice(0, -60)), check(otherCertificate, key), check(key, key)]) {
    for (const line of lines) expect(JSON.stringify(fault)).not.toContain(line);
  }
});
