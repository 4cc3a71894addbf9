import { X509Certificate } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { writeCertificates } from "../../demo/certificates.ts";
import { spiffeId, WORKLOADS } from "../../demo/topology.ts";

test("each workload gets a certificate of the authority with its SPIFFE id, and a key that only the owner reads", async () => {
  const folder = mkdtempSync(join(tmpdir(), "meshtally-certificates-"));
  try {
    const filesOf = await writeCertificates(WORKLOADS, folder);
    for (const workload of WORKLOADS) {
      const files = filesOf(workload);
      const authority = new X509Certificate(readFileSync(files.authority));
      const certificate = new X509Certificate(readFileSync(files.certificate));
      expect(authority.ca).toBe(true);
      expect(certificate.ca).toBe(false);
      expect(certificate.verify(authority.publicKey)).toBe(true);
      expect(certificate.subjectAltName).toBe(`URI:${spiffeId(workload)}`);
      expect(statSync(files.privateKey).mode & 0o777).toBe(0o600);
      expect(readFileSync(files.privateKey, "utf8")).toMatch(/^-----BEGIN PRIVATE KEY-----/);
    }
  } finally {
    rmSync(folder, { recursive: true });
  }
});
