// Shared with the collector: keep portable (filter/vocabulary/README.md).
// The labels of Istio's standard metrics, in the order in which they stand in a stat name.
// The order is part of the contract: TCP and gRPC-message metrics take a prefix or subset of it,
// the packed form of a label set (observation.ts) has no names, only this order.
// Source: istio.io/latest/docs/reference/config/metrics.

export const LABELS: readonly string[] = [
  "reporter",
  "source_workload",
  "source_canonical_service",
  "source_canonical_revision",
  "source_workload_namespace",
  "source_principal",
  "source_app",
  "source_version",
  "source_cluster",
  "destination_workload",
  "destination_workload_namespace",
  "destination_principal",
  "destination_app",
  "destination_version",
  "destination_service",
  "destination_canonical_service",
  "destination_canonical_revision",
  "destination_service_name",
  "destination_service_namespace",
  "destination_cluster",
  "request_protocol",
  "response_code",
  "grpc_response_status",
  "response_flags",
  "connection_security_policy",
];

/** Index of each label in LABELS, so that code names a label and never counts positions. */
export enum Label {
  Reporter,
  SourceWorkload,
  SourceCanonicalService,
  SourceCanonicalRevision,
  SourceWorkloadNamespace,
  SourcePrincipal,
  SourceApp,
  SourceVersion,
  SourceCluster,
  DestinationWorkload,
  DestinationWorkloadNamespace,
  DestinationPrincipal,
  DestinationApp,
  DestinationVersion,
  DestinationService,
  DestinationCanonicalService,
  DestinationCanonicalRevision,
  DestinationServiceName,
  DestinationServiceNamespace,
  DestinationCluster,
  RequestProtocol,
  ResponseCode,
  GrpcResponseStatus,
  ResponseFlags,
  ConnectionSecurityPolicy,
}

/** How many labels an HTTP metric carries: all of them. */
export const HTTP_LABEL_COUNT = 25;
/** How many of them, from the first, say who called whom: what the gRPC message counters carry. */
export const PEER_LABEL_COUNT = 20;
/** How many of them a TCP metric carries. */
export const TCP_LABEL_COUNT = 23;

/** Whether a TCP metric carries that label: all but the two that say how a request ended. */
export function isTcpLabel(label: Label): boolean {
  return label !== Label.ResponseCode && label !== Label.GrpcResponseStatus;
}
