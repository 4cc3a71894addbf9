// GrpcTransport: OTLP over gRPC, one unary call for each batch.

import { promisify } from "node:util";
import { gunzip } from "node:zlib";
import { type ChannelCredentials, Client, credentials, Metadata, type ServiceError, status } from "@grpc/grpc-js";
import { type ClientTls, readClientTls } from "../client/client-tls.ts";
import { type Access, readAccess } from "../client/secret.ts";
import { type Delivery, MAX_PAUSE_MS, type Transport } from "./delivery.ts";
import { readOtlpAnswer, readRetryDelay } from "./otlp-answer.ts";

const METHOD = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export";
const unpack = promisify(gunzip);
const same = (bytes: Buffer) => bytes;

export interface GrpcTransportOptions {
  /** http: plaintext; https: TLS. */
  readonly url: string;
  readonly userAgent: string;
  readonly access: Access;
  readonly tls: ClientTls;
  readonly timeoutMs: number;
}

/** Statuses after which OTLP sends again, all as they are; RESOURCE_EXHAUSTED only with a RetryInfo. */
const RETRIED: readonly status[] = [
  status.CANCELLED,
  status.DEADLINE_EXCEEDED,
  status.ABORTED,
  status.OUT_OF_RANGE,
  status.UNAVAILABLE,
  status.DATA_LOSS,
];

export class GrpcTransport implements Transport {
  private client: Client | null = null;
  /** The PEM texts that `client` uses. */
  private clientTls = "";

  constructor(private readonly options: GrpcTransportOptions) {}

  async send(body: Buffer, signal: AbortSignal): Promise<Delivery> {
    const metadata = new Metadata();
    let hide = (text: string) => text;
    let client: Client;
    try {
      const access = await readAccess(this.options.access);
      hide = access.hide;
      for (const [name, value] of Object.entries(access.headers)) metadata.set(name, value);
      client = await this.prepareClient();
    } catch (error: unknown) {
      const detail = hide(error instanceof Error ? error.message : String(error));
      return { kind: "retry", reason: "credentials", afterMs: 0, detail };
    }
    const delivery = await this.call(client, await unpack(body), metadata, signal);
    return { ...delivery, detail: hide(delivery.detail) };
  }

  close(): void {
    this.client?.close();
  }

  private call(client: Client, request: Buffer, metadata: Metadata, signal: AbortSignal): Promise<Delivery> {
    const deadline = Date.now() + this.options.timeoutMs;
    return new Promise((resolve) => {
      const call = client.makeUnaryRequest(METHOD, same, same, request, metadata, { deadline }, (error, answer) => {
        signal.removeEventListener("abort", cancel);
        resolve(error ? deliveryOfError(error) : readOtlpAnswer(answer as Buffer));
      });
      const cancel = () => call.cancel();
      signal.addEventListener("abort", cancel);
    });
  }

  /** Certificates are replaced while we run: the files are looked at each time, and a new connection made when they changed. */
  private async prepareClient(): Promise<Client> {
    const { url, tls, userAgent } = this.options;
    const { ca, certificate, key, mark } = await readClientTls(tls);
    if (this.client !== null && mark === this.clientTls) return this.client;
    this.client?.close();
    this.clientTls = mark;
    const { protocol, hostname, port } = new URL(url);
    const isTls = protocol === "https:";
    const secured: ChannelCredentials = isTls
      ? credentials.createSsl(ca, key, certificate)
      : credentials.createInsecure();
    const address = `${hostname}:${port === "" ? (isTls ? 443 : 80) : port}`;
    this.client = new Client(address, secured, {
      "grpc.primary_user_agent": userAgent,
      "grpc.default_compression_algorithm": 2, // gzip
      "grpc.enable_retries": 0, // we do
    });
    return this.client;
  }
}

function deliveryOfError({ code, details, metadata }: ServiceError): Delivery {
  const detail = `${status[code]}: ${details.slice(0, 200)}`;
  const [packed] = metadata?.get("grpc-status-details-bin") ?? [];
  const delayMs = readRetryDelay(Buffer.isBuffer(packed) ? packed : undefined);
  const afterMs = Math.min(delayMs ?? 0, MAX_PAUSE_MS);
  if (code === status.DEADLINE_EXCEEDED) return { kind: "retry", reason: "timeout", afterMs, detail };
  if (code === status.RESOURCE_EXHAUSTED && delayMs !== null)
    return { kind: "retry", reason: "throttled", afterMs, detail };
  if (RETRIED.includes(code)) return { kind: "retry", reason: "unreachable", afterMs, detail };
  const isUnauthorized = code === status.UNAUTHENTICATED || code === status.PERMISSION_DENIED;
  if (isUnauthorized) return { kind: "refused", reason: "unauthorized", detail };
  if (code === status.INVALID_ARGUMENT) return { kind: "refused", reason: "bad_request", detail };
  if (code === status.UNIMPLEMENTED || code === status.NOT_FOUND)
    return { kind: "refused", reason: "not_found", detail };
  return { kind: "refused", reason: "refused", detail };
}
