// TLS of connections that we open: whom we trust, and the certificate that we show. The files may be replaced while we run.

import { readFile } from "node:fs/promises";
import { createSecureContext, type SecureContext } from "node:tls";
import type { Log } from "../log.ts";
import { LogLimit } from "../receiver/log-limit.ts";

export interface ClientTls {
  /** PEM files; null: the authorities that Node.js knows, no certificate of ours. */
  readonly ca: string | null;
  readonly certificate: string | null;
  readonly key: string | null;
}

/** How often the files are looked at, at most. */
const LOOK_MS = 1000;

export interface ClientTlsContents {
  readonly ca: Buffer | null;
  readonly certificate: Buffer | null;
  readonly key: Buffer | null;
  /** Tells it from other contents. */
  readonly mark: string;
}

/** Rejects, naming the file, when one cannot be read. */
export async function readClientTls(files: ClientTls): Promise<ClientTlsContents> {
  const read = (path: string | null) => (path === null ? null : readFile(path));
  const [ca, certificate, key] = await Promise.all([read(files.ca), read(files.certificate), read(files.key)]);
  const mark = [ca, certificate, key].map((each) => each?.toString("latin1") ?? "").join("\n");
  return { ca, certificate, key, mark };
}

/** What the files say, for those that connect often. What is of no use, half-written perhaps, leaves the former in force. */
export class FreshClientTls {
  private context: SecureContext | null = null;
  private mark: string | null = null;
  private nextMs = Number.NEGATIVE_INFINITY;
  private looking: Promise<void> = Promise.resolve();

  private constructor(
    private readonly files: ClientTls,
    private readonly log: LogLimit,
  ) {}

  /** Null where there are no files. */
  static of(files: ClientTls, log: Log): FreshClientTls | null {
    const isNone = files.ca === null && files.certificate === null;
    return isNone ? null : new FreshClientTls(files, new LogLimit(log));
  }

  /** The same object for as long as the files say the same. Rejects when they were never of use. */
  async current(): Promise<SecureContext> {
    if (performance.now() >= this.nextMs) {
      this.nextMs = performance.now() + LOOK_MS;
      this.looking = this.look();
    }
    await this.looking;
    return this.context as SecureContext;
  }

  private async look(): Promise<void> {
    try {
      const { ca, certificate, key, mark } = await readClientTls(this.files);
      if (mark === this.mark) return;
      this.context = createSecureContext({ ...(ca && { ca }), ...(certificate && key && { cert: certificate, key }) });
      this.mark = mark;
    } catch (error: unknown) {
      if (this.context === null) throw error;
      this.log.error(
        "files",
        { err: error },
        "certificates of ours cannot be read, or are of no use; the former ones stay",
      );
    }
  }
}
