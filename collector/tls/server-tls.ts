// TLS of one listener: its certificate, looked at every few seconds and replaced without a restart, and the handshakes that fail.
// Connections that are open keep what they agreed on; each new one gets the newest.

import { createHash } from "node:crypto";
import type { Socket } from "node:net";
import type { Server, TLSSocket, TlsOptions } from "node:tls";
import { CollectorError } from "../error.ts";
import type { Log } from "../log.ts";
import { LogLimit } from "../receiver/log-limit.ts";
import type { HandshakeFailure, SelfMetrics } from "../self.ts";
import { HANDSHAKE_FAILURES, TLS_RELOAD_RESULTS } from "../self.ts";
import {
  type Credentials,
  type CredentialsFault,
  checkCredentials,
  readTlsFiles,
  readTlsFilesSync,
  type TlsContents,
  type TlsFiles,
} from "./credentials.ts";

const POLL_MS = 2000;
/** A client that says nothing holds a socket for so long. */
const HANDSHAKE_TIMEOUT_MS = 10_000;

export interface ServerTlsOptions {
  /** The label `listener`. */
  readonly listener: "grpc" | "http" | "otlp_grpc" | "otlp_http";
  readonly files: TlsFiles;
  /** How often the files are looked at. Default: 2 s. */
  readonly pollMs?: number;
  readonly self: SelfMetrics;
  readonly log: Log;
}

export class ServerTls {
  private credentials: Credentials;
  /** Of the contents that were tried last. */
  private seen: string;
  private server: Server | null = null;
  /** Connections from their first byte on: a handshake that does not end must not hold up our own end. */
  private readonly sockets = new Set<Socket>();
  private timer: NodeJS.Timeout | undefined;
  private readonly failures: LogLimit;

  /** Throws CollectorError `config_invalid` when the files are of no use. */
  constructor(private readonly options: ServerTlsOptions) {
    const { listener, files, self, log } = options;
    this.failures = new LogLimit(log);
    const contents = readTlsFilesSync(files);
    const checked = checkCredentials(contents);
    if (!checked.ok) throw new CollectorError("config_invalid", describe(checked, files));
    this.credentials = checked;
    this.seen = markOf(contents);
    for (const result of TLS_RELOAD_RESULTS) self.tlsReloads.inc({ listener, result }, 0);
    for (const reason of HANDSHAKE_FAILURES) self.tlsHandshakesFailed.inc({ listener, reason }, 0);
    this.tell("certificate in use");
  }

  /** What a server of `node:tls` or `node:https` is made with, before it is given to `serve`. */
  get serverOptions(): TlsOptions {
    const isClientAsked = this.options.files.clientCa !== null;
    return {
      ...this.credentials.context,
      requestCert: isClientAsked,
      rejectUnauthorized: isClientAsked,
      handshakeTimeout: HANDSHAKE_TIMEOUT_MS,
    };
  }

  /** Gives `server` each new certificate, from when it listens until `stop`. */
  serve(server: Server): void {
    this.server = server;
    server.on("connection", (socket: Socket) => {
      this.sockets.add(socket);
      socket.once("close", () => this.sockets.delete(socket));
    });
    server.on("tlsClientError", (error: NodeJS.ErrnoException, socket) => this.handshakeFailed(error, socket));
    server.once("listening", () => this.schedule());
  }

  /** Looks no more, and ends all connections at once. */
  stop(): void {
    this.server = null;
    clearTimeout(this.timer);
    for (const socket of this.sockets) socket.destroy();
  }

  private schedule(): void {
    this.timer = setTimeout(() => this.poll(), this.options.pollMs ?? POLL_MS).unref();
  }

  private async poll(): Promise<void> {
    const { files } = this.options;
    const contents = await readTlsFiles(files);
    const mark = markOf(contents);
    // Twice the same: files that are replaced between two reads make a pair that never was one.
    const isChanged = mark !== this.seen && mark === markOf(await readTlsFiles(files));
    if (this.server === null) return;
    if (isChanged) {
      this.seen = mark;
      this.apply(checkCredentials(contents), this.server);
    }
    this.schedule();
  }

  private apply(checked: Credentials | CredentialsFault, server: Server): void {
    const { listener, files, self, log } = this.options;
    self.tlsReloads.inc({ listener, result: checked.ok ? "ok" : checked.reason });
    if (!checked.ok) {
      log.error(
        { listener, reason: describe(checked, files) },
        "certificate not replaced; the former one stays in use",
      );
      return;
    }
    this.credentials = checked;
    server.setSecureContext(checked.context);
    this.tell("certificate replaced");
  }

  private tell(message: string): void {
    const { listener, files, self, log } = this.options;
    const { expiresMs } = this.credentials;
    self.tlsCertificateExpiry.set({ listener }, expiresMs / 1000);
    const fields = { listener, certificate: files.certificate, expires: new Date(expiresMs).toISOString() };
    if (expiresMs > Date.now()) log.info(fields, message);
    else log.warn(fields, `${message}, and it has expired`);
  }

  private handshakeFailed(error: NodeJS.ErrnoException, socket: TLSSocket): void {
    const { listener, self } = this.options;
    const code = String(socket.authorizationError ?? error.code ?? error.message);
    const reason = failureOf(socket, code);
    self.tlsHandshakesFailed.inc({ listener, reason });
    if (reason === "gone") return; // a TCP health check, as a rule
    this.failures.warn(reason, { listener, reason, code, peer: socket.remoteAddress ?? null }, "TLS handshake failed");
  }
}

function failureOf(socket: TLSSocket, code: string): HandshakeFailure {
  if (socket.authorizationError) return "client_refused";
  if (code === "ERR_SSL_PEER_DID_NOT_RETURN_A_CERTIFICATE") return "client_refused";
  if (code.includes("ALERT")) return "server_refused";
  return code.startsWith("ERR_SSL_") ? "protocol" : "gone";
}

function describe({ file, found, expected }: CredentialsFault, files: TlsFiles): string {
  return `${files[file]}: found ${found}, expected ${expected}`;
}

/** Different when a file's content is. */
function markOf(contents: TlsContents): string {
  const hash = createHash("sha256");
  for (const content of Object.values(contents)) {
    const bytes = Buffer.isBuffer(content) ? content : Buffer.from(content?.message ?? "");
    hash.update(`${bytes.length} `).update(bytes);
  }
  return hash.digest("base64");
}
