// Settings of receivers of metrics: what a schema cannot tell of them is checked here.

import type { ClientTls } from "../client/client-tls.ts";
import type { Access } from "../client/secret.ts";
import {
  checkAccess,
  checkClientTls,
  checkExposure,
  type RawAccess,
  type RawClientTls,
  type SettingsFault,
  type Surroundings,
} from "../client/settings.ts";

/** What all receivers have, whatever they speak. */
export interface ReceiverSettings {
  /** Tells it from others, in logs and metrics. */
  readonly name: string;
  readonly url: string;
  readonly access: Access;
  readonly tls: ClientTls;
  readonly intervalMs: number;
  /** Of one request. */
  readonly timeoutMs: number;
  /** Most samples in a request. */
  readonly maxSamples: number;
  /** Without a folder it is in memory. */
  readonly queue: { readonly folder: string | null; readonly maxBytes: number };
  /** Families whose names match go out: a regular expression of the whole name. */
  readonly metrics: string;
}

export interface RemoteWriteSettings extends ReceiverSettings {
  readonly externalLabels: Readonly<Record<string, string>>;
}

export const OTLP_PROTOCOLS = ["http/protobuf", "grpc"] as const;
export type OtlpProtocol = (typeof OTLP_PROTOCOLS)[number];

export interface OtlpExportSettings extends ReceiverSettings {
  readonly protocol: OtlpProtocol;
  readonly resourceAttributes: Readonly<Record<string, string>>;
}

/** As it stands in the file; values have passed the schema. */
export interface RawReceiver extends RawAccess, RawClientTls {
  readonly name?: string;
  readonly url: string;
  readonly queue?: { readonly folder?: string };
}

/** The metrics that are for others; the collector's own and its process's are not among them. */
export const DEFAULT_METRICS = "istio_.*|mesh_.*";

/** Receivers without a name go by their host. */
export function nameOf({ name, url }: Pick<RawReceiver, "name" | "url">): string {
  return name ?? new URL(url).host;
}

/** All that is wrong with one receiver. Nothing of a secret is in it. */
export function checkReceiver(raw: RawReceiver, around: Surroundings): SettingsFault[] {
  return [...checkAccess(raw, around), ...checkExposure(raw), ...checkClientTls(raw, around)];
}
