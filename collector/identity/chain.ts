// Analyzers: what can say who is at an end of a call. The first of the chain that answers wins, for each end by itself.

export const ANALYZERS = [
  /** What the proxies tell of themselves: node metadata, the metadata exchange, and endpoint metadata of the control plane. */
  "mx-mesh",
  /** Kubernetes objects, by address. */
  "k8s-mesh",
  /** The address itself: it names the service of a TCP client, and nothing else. */
  "address",
] as const;
export type Analyzer = (typeof ANALYZERS)[number];
