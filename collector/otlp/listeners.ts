// OTLP's own ports, where they are configured: gRPC (4317 by custom) and HTTP (4318).

import type { Config } from "../config/config.ts";
import { formatAddress } from "../config/formats.ts";
import type { Log } from "../log.ts";
import { GrpcServer } from "../receiver/grpc.ts";
import type { TlsFiles } from "../tls/credentials.ts";
import type { ServerTls } from "../tls/server-tls.ts";
import { OtlpHttpServer } from "./http-server.ts";
import type { OtlpReceiver } from "./receiver.ts";

export interface OtlpListenersOptions {
  readonly config: Pick<Config, "grpc" | "otlp">;
  readonly otlp: OtlpReceiver;
  readonly tlsOf: (listener: "otlp_grpc" | "otlp_http", files: TlsFiles | null | undefined) => ServerTls | null;
  readonly isReady: () => boolean;
  readonly log: Log;
}

export class OtlpListeners {
  /** As they are bound: "127.0.0.1:4317"; null where there is none. */
  readonly addresses: { grpc: string | null; http: string | null } = { grpc: null, http: null };
  private readonly grpc: GrpcServer | null = null;
  private readonly http: OtlpHttpServer | null = null;
  private isPaused = false;

  constructor(private readonly options: OtlpListenersOptions) {
    const { config, otlp, tlsOf, isReady, log } = options;
    const { maxMessageBytes } = config.grpc;
    if (config.otlp.grpc !== null) {
      const { address, tls } = config.otlp.grpc;
      const common = { maxMessageBytes, isReady, tls: tlsOf("otlp_grpc", tls), log };
      this.grpc = new GrpcServer({ address: formatAddress(address), ...common });
      otlp.register(this.grpc);
    }
    if (config.otlp.http !== null) {
      const { address, tls } = config.otlp.http;
      const common = {
        maxBodyBytes: maxMessageBytes,
        isPaused: () => this.isPaused,
        tls: tlsOf("otlp_http", tls),
        log,
      };
      this.http = new OtlpHttpServer({ ...address, signals: otlp.signals, ...common });
    }
  }

  /** Rejects when an address cannot be listened on. */
  async start(): Promise<void> {
    const { config } = this.options;
    const grpcPort = await this.grpc?.start();
    const httpPort = await this.http?.start();
    const addressOf = (listener: Config["otlp"]["grpc"], port: number | undefined) =>
      listener === null || port === undefined ? null : formatAddress({ host: listener.address.host, port });
    this.addresses.grpc = addressOf(config.otlp.grpc, grpcPort);
    this.addresses.http = addressOf(config.otlp.http, httpPort);
  }

  /** Requests are answered with "try again" until `resume`. */
  pause(): void {
    this.isPaused = true;
    this.grpc?.pause();
  }

  resume(): void {
    this.isPaused = false;
    this.grpc?.resume();
  }

  async stop(drainMs: number): Promise<void> {
    await Promise.all([this.grpc?.stop(drainMs), this.http?.stop(drainMs)]);
  }
}
