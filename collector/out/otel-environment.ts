// OpenTelemetry's environment variables, for what the configuration of an OTLP receiver leaves open.
// https://opentelemetry.io/docs/specs/otel/protocol/exporter/

import type { OtlpProtocol, RawReceiver } from "./settings.ts";

/** Keys of an OTLP receiver in the file. */
export type RawOtlpReceiver = Omit<RawReceiver, "url"> & {
  readonly url?: string;
  readonly protocol?: OtlpProtocol;
  readonly timeout?: string;
  readonly resource_attributes?: Readonly<Record<string, string>>;
};

type Environment = Readonly<NodeJS.ProcessEnv>;

/** The receiver with what the environment says of the keys that it lacks; its URL is "" when nobody names one. */
export function withEnvironment(raw: RawOtlpReceiver, env: Environment): RawOtlpReceiver & RawReceiver {
  const told = (name: string) =>
    env[`OTEL_EXPORTER_OTLP_METRICS_${name}`] || env[`OTEL_EXPORTER_OTLP_${name}`] || undefined;
  const protocol = raw.protocol ?? (told("PROTOCOL") === "grpc" ? "grpc" : "http/protobuf");
  // Those of the environment belong to its endpoint: they go to no other.
  if (raw.url !== undefined) return { ...raw, url: raw.url, protocol: raw.protocol ?? "http/protobuf" };
  const timeout = told("TIMEOUT");
  const tls = { ca: told("CERTIFICATE"), certificate: told("CLIENT_CERTIFICATE"), key: told("CLIENT_KEY") };
  return {
    ...raw,
    url: endpointOf(env, protocol),
    protocol,
    headers: raw.headers ?? headersOf(told("HEADERS") ?? ""),
    ...(raw.timeout === undefined && timeout !== undefined && /^\d{1,6}$/.test(timeout)
      ? { timeout: `${timeout}ms` }
      : {}),
    tls:
      raw.tls ??
      (Object.fromEntries(Object.entries(tls).filter(([, path]) => path !== undefined)) as RawReceiver["tls"] & object),
  };
}

/** Attributes of the resource, those of the configuration before those of the environment. */
export function resourceAttributesOf(
  { resource_attributes }: RawOtlpReceiver,
  env: Environment,
): Record<string, string> {
  const { OTEL_RESOURCE_ATTRIBUTES = "", OTEL_SERVICE_NAME = "" } = env;
  const told = Object.fromEntries(pairsOf(OTEL_RESOURCE_ATTRIBUTES));
  const name = OTEL_SERVICE_NAME === "" ? {} : { "service.name": OTEL_SERVICE_NAME };
  return { "service.name": "meshtally", ...told, ...name, ...resource_attributes };
}

/** The general endpoint is a base for HTTP: below it stands the path of each signal. */
function endpointOf(env: Environment, protocol: OtlpProtocol): string {
  const { OTEL_EXPORTER_OTLP_METRICS_ENDPOINT: own = "", OTEL_EXPORTER_OTLP_ENDPOINT: base = "" } = env;
  if (own !== "") return own;
  return base === "" || protocol === "grpc" ? base : `${base.replace(/\/+$/, "")}/v1/metrics`;
}

function headersOf(text: string): RawReceiver["headers"] & object {
  return pairsOf(text).map(([name, value]) => ({ name, value }));
}

/** `a=1,b=x%20y`, as W3C's baggage writes them. */
function pairsOf(text: string): [string, string][] {
  return text.split(",").flatMap((pair) => {
    const at = pair.indexOf("=");
    return at < 1 ? [] : [[pair.slice(0, at).trim(), decoded(pair.slice(at + 1).trim())] as [string, string]];
  });
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch (error: unknown) {
    if (error instanceof URIError) return text;
    throw error;
  }
}
