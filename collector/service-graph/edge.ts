// Which edge of the graph a label set belongs to, and what its requests are there.

import { Label, OTHER, POLICY_MUTUAL_TLS, POLICY_NONE, REPORTER_DESTINATION, UNKNOWN } from "../vocabulary.ts";

/** A workload, or what is known of one. */
export interface Node {
  /**
   * `default/reviews-v1`, or `east/default/reviews-v1` where the cluster is known; `service/default/reviews` for a service of which
   * no workload answered; `unknown`; `other`.
   */
  readonly id: string;
  readonly workload: string;
  readonly namespace: string;
  /** Canonical service name; for a node without workload, the name of the service that was called. */
  readonly service: string;
  /** The one of the last report that grew. */
  readonly version: string;
  readonly cluster: string;
}

/** Where the requests of one label set go. */
export interface Place {
  readonly source: Node;
  readonly destination: Node;
  readonly isFromDestination: boolean;
  readonly isError: boolean;
  readonly responseCode: string;
  /** Whether the connection was mutual TLS; null for reports that do not say. */
  readonly isMutualTls: boolean | null;
}

/** Stands for everything that has no place of its own because a limit was reached. */
export const OTHER_NODE: Node = {
  id: OTHER,
  workload: OTHER,
  namespace: OTHER,
  service: OTHER,
  version: OTHER,
  cluster: OTHER,
};

/** `values` are in the order of LABELS. */
export function placeOf(values: readonly string[]): Place {
  const at = (label: Label) => values[label] || UNKNOWN;
  const policy = at(Label.ConnectionSecurityPolicy);
  return {
    source: workloadNode({
      workload: at(Label.SourceWorkload),
      namespace: at(Label.SourceWorkloadNamespace),
      service: at(Label.SourceCanonicalService),
      version: at(Label.SourceVersion),
      cluster: at(Label.SourceCluster),
    }),
    destination: destinationNode(at),
    isFromDestination: at(Label.Reporter) === REPORTER_DESTINATION,
    isError: isError(at(Label.ResponseCode), values[Label.GrpcResponseStatus] ?? ""),
    responseCode: at(Label.ResponseCode),
    isMutualTls: policy === POLICY_MUTUAL_TLS ? true : policy === POLICY_NONE ? false : null,
  };
}

function destinationNode(at: (label: Label) => string): Node {
  const workload = at(Label.DestinationWorkload);
  const service = at(Label.DestinationServiceName);
  if (workload === UNKNOWN && service !== UNKNOWN) {
    const namespace = at(Label.DestinationServiceNamespace);
    if (service === OTHER && namespace === OTHER) return OTHER_NODE;
    const cluster = at(Label.DestinationCluster);
    const id = `${clusterPart(cluster)}service/${namespace}/${service}`;
    return { id, workload, namespace, service, version: UNKNOWN, cluster };
  }
  return workloadNode({
    workload,
    namespace: at(Label.DestinationWorkloadNamespace),
    service: at(Label.DestinationCanonicalService),
    version: at(Label.DestinationVersion),
    cluster: at(Label.DestinationCluster),
  });
}

function workloadNode(facts: Omit<Node, "id">): Node {
  const { workload, namespace, cluster } = facts;
  if (workload === OTHER && namespace === OTHER) return OTHER_NODE;
  return { ...facts, id: workload === UNKNOWN ? UNKNOWN : `${clusterPart(cluster)}${namespace}/${workload}` };
}

function clusterPart(cluster: string): string {
  return cluster === UNKNOWN ? "" : `${cluster}/`;
}

/** What one report leaves unknown of a node, another may have told; what it knows is newer. */
export function withKnown(before: Node | undefined, node: Node): Node {
  if (!before || before === node) return node;
  const known = (fact: "service" | "version") => (node[fact] === UNKNOWN ? before[fact] : node[fact]);
  return { ...before, service: known("service"), version: known("version") };
}

/**
 * An error is: no answer (code 0), a 5xx, or for gRPC any status but OK. What the caller did wrong (4xx) is none: the service did
 * as it should.
 */
function isError(responseCode: string, grpcStatus: string): boolean {
  if (responseCode === "0" || /^5\d\d$/.test(responseCode)) return true;
  return /^\d+$/.test(grpcStatus) && grpcStatus !== "0";
}
