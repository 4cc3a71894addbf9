// A certificate authority for one run of the mesh, and a certificate per workload with its SPIFFE id.

import "reflect-metadata"; // @peculiar/x509 does not load without it
import { webcrypto } from "node:crypto";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import * as x509 from "@peculiar/x509";
import { spiffeId, TRUST_DOMAIN, type Workload } from "./topology.ts";

const ALGORITHM = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" } as const;
/** Longer than any run, short enough to be of no use to anyone. */
const LIFETIME_MS = 24 * 60 * 60 * 1000;
/** Clocks need not agree to the second. */
const BACKDATE_MS = 60 * 1000;

/** Paths of PEM files, as a proxy's configuration names them. */
export interface CertificateFiles {
  readonly authority: string;
  readonly certificate: string;
  readonly privateKey: string;
}

/** Writes `authority.pem`, and `<workload>.pem` and `<workload>.key` for each; answers which files are whose. */
export async function writeCertificates(
  workloads: readonly Workload[],
  folder: string,
): Promise<(workload: Workload) => CertificateFiles> {
  x509.cryptoProvider.set(webcrypto as unknown as Crypto);
  await mkdir(folder, { recursive: true });
  const authority = join(folder, "authority.pem");
  const validity = { notBefore: new Date(Date.now() - BACKDATE_MS), notAfter: new Date(Date.now() + LIFETIME_MS) };
  const root = await createAuthority(validity);
  await writeFile(authority, root.certificate.toString("pem"));

  const files = new Map<string, CertificateFiles>();
  for (const workload of workloads) {
    const keys = await createKeys();
    const certificate = await x509.X509CertificateGenerator.create({
      ...validity,
      issuer: root.certificate.subject,
      publicKey: keys.publicKey,
      signingKey: root.privateKey,
      signingAlgorithm: ALGORITHM,
      extensions: [
        new x509.BasicConstraintsExtension(false, undefined, true),
        new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
        new x509.ExtendedKeyUsageExtension([x509.ExtendedKeyUsage.serverAuth, x509.ExtendedKeyUsage.clientAuth]),
        // Critical, since the subject is empty: the id is the name, as in SPIFFE's X.509-SVID.
        new x509.SubjectAlternativeNameExtension([{ type: "url", value: spiffeId(workload) }], true),
      ],
    });
    const paths = {
      authority,
      certificate: join(folder, `${workload.name}.pem`),
      privateKey: join(folder, `${workload.name}.key`),
    };
    await writeFile(paths.certificate, certificate.toString("pem"));
    await writeFile(paths.privateKey, await privateKeyPem(keys.privateKey), { mode: 0o600 });
    files.set(workload.name, paths);
  }
  return (workload) => {
    const paths = files.get(workload.name);
    if (paths === undefined) throw new Error(`no certificate for ${workload.name}`);
    return paths;
  };
}

async function createAuthority(validity: { notBefore: Date; notAfter: Date }) {
  const keys = await createKeys();
  const certificate = await x509.X509CertificateGenerator.createSelfSigned({
    ...validity,
    name: `O=${TRUST_DOMAIN}`,
    keys,
    signingAlgorithm: ALGORITHM,
    extensions: [
      new x509.BasicConstraintsExtension(true, 0, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true),
    ],
  });
  return { certificate, privateKey: keys.privateKey };
}

function createKeys(): Promise<CryptoKeyPair> {
  return webcrypto.subtle.generateKey(ALGORITHM, true, ["sign", "verify"]) as Promise<CryptoKeyPair>;
}

async function privateKeyPem(key: CryptoKey): Promise<string> {
  return x509.PemConverter.encode(await webcrypto.subtle.exportKey("pkcs8", key), "PRIVATE KEY");
}
