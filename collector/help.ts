// Help text of each metric that the filter keeps: for `# HELP` lines and docs/metrics.md. Kept out of the vocabulary, since every
// string there ends up in the wasm.

/** By metric name. */
export const METRIC_HELP: { readonly [name: string]: string } = {
  istio_requests_total:
    "Requests, HTTP and gRPC, counted when they end; one that got no answer counts with response_code 0.",
  istio_request_duration_milliseconds:
    "Time from the first byte of the request to the last byte of the answer, in whole milliseconds; only for requests that finished.",
  istio_request_bytes: "Size of requests: headers and body.",
  istio_response_bytes: "Size of answers: headers and body.",
  istio_request_messages_total:
    "gRPC messages of requests, counted while the stream lives and at its end; needs Envoy's grpc_stats filter.",
  istio_response_messages_total:
    "gRPC messages of answers, counted while the stream lives and at its end; needs Envoy's grpc_stats filter.",
  istio_tcp_connections_opened_total:
    "TCP connections opened, counted once the peer is known, or is waited for no longer.",
  istio_tcp_connections_closed_total: "TCP connections closed, however they ended.",
  istio_tcp_sent_bytes_total: "Bytes sent to the downstream of TCP connections, without the metadata exchange.",
  istio_tcp_received_bytes_total:
    "Bytes received from the downstream of TCP connections, without the metadata exchange.",
  mesh_requests_total: "Requests, HTTP and gRPC, each counted once, whoever on its way reported it.",
  mesh_request_duration_milliseconds:
    "Time from the first byte of the request to the last byte of the answer, in whole milliseconds, of each request once.",
  mesh_request_bytes: "Size of requests, each once: headers and body.",
  mesh_response_bytes: "Size of answers, each once: headers and body.",
  mesh_tcp_connections_opened_total: "TCP connections opened, each counted once.",
  mesh_tcp_connections_closed_total: "TCP connections closed, each counted once.",
  mesh_tcp_sent_bytes_total: "Bytes sent to the downstream of TCP connections, each connection once.",
  mesh_tcp_received_bytes_total: "Bytes received from the downstream of TCP connections, each connection once.",
  envoy_metadata_exchange_alpn_protocol_found: "TCP connections whose peer takes part in the metadata exchange.",
  envoy_metadata_exchange_alpn_protocol_not_found: "TCP connections whose peer takes no part in the metadata exchange.",
  envoy_metadata_exchange_initial_header_not_found:
    "TCP connections whose server was to say who it is and began without, and times that fewer than 8 bytes of what may be it had come.",
  envoy_metadata_exchange_header_not_found:
    "TCP connections whose first bytes begin like the exchange and hold no metadata.",
  envoy_metadata_exchange_metadata_added: "TCP connections on which the proxy sent its own metadata.",
  istio_build: "1; its labels say that this is a proxy (`component`) and of which Istio version (`tag`).",
  meshtally_filter_start_time_milliseconds:
    "When this Envoy process first ran the filter, in Unix milliseconds. It tells one process life from the next.",
  meshtally_filter_node: "1; its label `tag` is the node's id, in hexadecimal: who this Envoy process is.",
  meshtally_filter_faults_total: "What the filter could not read, take in or tell apart, by reason.",
};
