// The families of Envoy AI Gateway's metrics: OpenTelemetry's histograms of generative AI, under the names and labels that they have in
// Prometheus by OpenTelemetry's rules.
// https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-metrics/
// https://github.com/envoyproxy/ai-gateway/blob/main/internal/metrics/genai.go

export interface AiFamily {
  /** In OTLP. */
  readonly metric: string;
  /** In Prometheus. */
  readonly name: string;
  readonly help: string;
  readonly labels: readonly AiLabel[];
  /** Upper bounds of buckets; the gateway's own. */
  readonly bounds: readonly number[];
}

interface AiLabel {
  readonly name: string;
  readonly attribute: string;
}

/** Of the gateway: its resource's `service.name`. */
export const SERVICE_LABEL = "service";

const label = (attribute: string): AiLabel => ({ name: attribute.replaceAll(".", "_"), attribute });
const COMMON: readonly AiLabel[] = [
  "gen_ai.operation.name",
  "gen_ai.provider.name",
  "gen_ai.original.model",
  "gen_ai.request.model",
  "gen_ai.response.model",
  "ai.backend",
].map(label);

export const AI_FAMILIES: readonly AiFamily[] = [
  {
    metric: "gen_ai.client.token.usage",
    name: "gen_ai_client_token_usage",
    help: "Tokens of requests, by kind: the sum is tokens, the count is requests that told of them.",
    labels: [...COMMON, label("gen_ai.token.type")],
    bounds: Array.from({ length: 14 }, (_, i) => 4 ** i),
  },
  {
    metric: "gen_ai.server.request.duration",
    name: "gen_ai_server_request_duration_seconds",
    help: "Time from a request's first byte to the last of its answer; error_type is set where it failed.",
    labels: [...COMMON, label("error.type")],
    bounds: [0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92],
  },
  {
    metric: "gen_ai.server.time_to_first_token",
    name: "gen_ai_server_time_to_first_token_seconds",
    help: "Time from a request's first byte to the first token of a streamed answer.",
    labels: COMMON,
    bounds: [0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10],
  },
  {
    metric: "gen_ai.server.time_per_output_token",
    name: "gen_ai_server_time_per_output_token_seconds",
    help: "Time per token of a streamed answer, after the first.",
    labels: COMMON,
    bounds: [0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5],
  },
];
