// What each label and each fault reason means, for the tables of docs/metrics.md. Kept apart from the vocabulary, whose text
// would all end up in the wasm.

/** By the names of LABELS. "own" is the proxy that reports; "peer" is the other end. */
export const LABEL_HELP: { readonly [label: string]: string } = {
  reporter:
    "`source` from an outbound listener or a gateway, `destination` from an inbound listener, `waypoint` from a waypoint",
  source_workload: "workload of the caller",
  source_canonical_service: "canonical name of the caller",
  source_canonical_revision: "canonical revision of the caller; `latest` if a peer names none",
  source_workload_namespace: "namespace of the caller; for a peer, the one in its SPIFFE id comes first",
  source_principal: "SPIFFE id in the caller's certificate",
  source_app: "label `app` of the caller (of a peer: `app.kubernetes.io/name` comes first)",
  source_version: "label `version` of the caller (of a peer: `app.kubernetes.io/version` comes first)",
  source_cluster: "cluster id of the caller",
  destination_workload: "workload of the callee",
  destination_workload_namespace: "namespace of the callee; for a peer, the one in its SPIFFE id comes first",
  destination_principal: "SPIFFE id in the callee's certificate",
  destination_app: "label `app` of the callee (of a peer: `app.kubernetes.io/name` comes first)",
  destination_version: "label `version` of the callee (of a peer: `app.kubernetes.io/version` comes first)",
  destination_service: "host of the service that was called",
  destination_canonical_service: "canonical name of the callee",
  destination_canonical_revision: "canonical revision of the callee; `latest` if a peer names none",
  destination_service_name:
    "short name of the service that was called; `BlackHoleCluster` or `PassthroughCluster` for none",
  destination_service_namespace: "namespace of the service that was called",
  destination_cluster: "cluster id of the callee",
  request_protocol: "`http`, `grpc` or `tcp`",
  response_code: "HTTP status, `0` if there was no answer",
  grpc_response_status: "gRPC status as a number; empty if not gRPC or not known",
  response_flags: "Envoy's response flags by their short names, joined by commas; `-` for none",
  connection_security_policy:
    "`mutual_tls` or `none` from a destination; a source reports `unknown` unless `source_security_policy` is on",
};

/** By the names of FAULT_REASONS. */
export const FAULT_HELP: { readonly [reason: string]: string } = {
  peer_malformed:
    "A peer's metadata header was no base64 of a Struct, or what stood before a TCP stream no Struct. The peer counts as unknown.",
  peer_too_large:
    "A peer's metadata header, or what would be one before a TCP stream, was longer than `max_header_bytes`. The peer counts as unknown.",
  peer_untrusted:
    "A peer sent metadata without the certificate that `trust` asks for. The peer counts as unknown and gets no answer.",
  peer_contradicts_identity:
    "A peer's metadata named another namespace or identity than its certificate. The certificate's namespace is the label.",
  own_metadata_too_large:
    "The proxy's own metadata was longer than `max_header_bytes`. It is sent without `additional_labels`, or not at all. Counted once per configuration and worker.",
  label_sets_full:
    "The cap on label sets was reached. The request, or TCP connection, went to an overflow series, most of whose labels read `other`.",
  streams_full: "The cap on requests in flight was reached. The request was counted without its peer.",
  connections_full:
    "The cap on TCP connections was reached. The connection was counted when it ended, without its peer.",
  peers_full: "The cache of peers was full and lost its oldest quarter. No count changes; peers are decoded again.",
  clusters_full: "The cache of clusters was full and emptied. No count changes; metadata is read again.",
  keys_full: "The cache of keys was full and emptied. No count changes; labels are made again.",
  host_call: "Envoy answered a call of the filter with an error. The value counts as absent.",
  configuration: "The plugin configuration was not as expected. Defaults stand in for the broken part.",
  expression: "A condition of the configuration could not be evaluated for a request, and so did not hold.",
  peer_late:
    "A TCP peer told who it is after its connection had been reported without it. The bytes from then on count as the peer's.",
  peer_unanswered:
    "A TCP client told who it is after the server had spoken. It gets no answer: for it the server stays unknown.",
  prefix_cut: "The metadata before a TCP stream did not come whole in time. Its bytes went on as they are.",
};
