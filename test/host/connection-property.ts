// The attributes of a TCP connection: which answer in which callback. As stock Envoy 1.40 answers to a network filter before tcp_proxy,
// seen with a filter that asked for them in every callback and in ticks.

import {
  type CertificateUris,
  descend,
  findCertificate,
  metadataMessage,
  type PropertyValue,
  type StreamView,
} from "./property.ts";
import type { JsonObject } from "./struct.ts";

/** What Envoy knows of a connection in the callback that is running. */
export interface ConnectionView extends StreamView {
  readonly connectionId: bigint;
  /** "127.0.0.1:40000" */
  readonly sourceAddress: string;
  readonly destinationAddress: string;
  readonly requestedServerName: string;
  /** undefined before the upstream connection stands, or was refused. */
  readonly upstreamAddress: string | undefined;
  /** This proxy's end of the upstream connection; undefined before that stands. */
  readonly upstreamLocalAddress: string | undefined;
  /** undefined in `proxy_on_new_connection`. */
  readonly cluster: { readonly name: string; readonly metadata?: JsonObject } | undefined;
  /** undefined as long. */
  readonly endpoint: { readonly metadata?: JsonObject } | undefined;
  readonly responseFlags: bigint;
  /** Read from the downstream; what was held back is counted again with each further read. */
  readonly receivedBytes: bigint;
  /** Written to the downstream. */
  readonly sentBytes: bigint;
  /** undefined before the handshake is over. */
  readonly downstreamTls: CertificateUris | undefined;
  /** undefined before the upstream connection stands. */
  readonly upstreamTls: CertificateUris | undefined;
}

/** The value at a path; undefined when Envoy answers NotFound, as it does for all that only HTTP has. */
export function findConnectionProperty(path: readonly string[], view: ConnectionView): PropertyValue | undefined {
  const [root = "", name = ""] = path;
  switch (root) {
    case "request":
      return name === "size" || name === "total_size" ? view.receivedBytes : undefined;
    case "response":
      return findResponse(name, view);
    case "source":
      return findAddress(name, view.sourceAddress);
    case "destination":
      return findAddress(name, view.destinationAddress);
    case "connection":
      return findConnection(name, view);
    case "upstream":
      if (name === "local_address") return view.upstreamLocalAddress;
      return findAddress(name, view.upstreamAddress) ?? findCertificate(name, view.upstreamTls);
    case "xds":
      return descend(findXds(name, view), path, 2);
    default:
      return undefined;
  }
}

function findResponse(name: string, view: ConnectionView): PropertyValue | undefined {
  if (name === "flags") return view.responseFlags;
  return name === "size" || name === "total_size" ? view.sentBytes : undefined;
}

function findConnection(name: string, view: ConnectionView): PropertyValue | undefined {
  switch (name) {
    case "id":
      return view.connectionId;
    case "requested_server_name":
      return view.requestedServerName;
    case "mtls":
      return view.downstreamTls?.peer !== undefined;
    default:
      return findCertificate(name, view.downstreamTls);
  }
}

function findAddress(name: string, address: string | undefined): PropertyValue | undefined {
  if (address === undefined) return undefined;
  if (name === "address") return address;
  return name === "port" ? BigInt(address.slice(address.lastIndexOf(":") + 1)) : undefined;
}

function findXds(name: string, view: ConnectionView): PropertyValue | undefined {
  switch (name) {
    case "cluster_name":
      return view.cluster?.name;
    case "cluster_metadata":
      return view.cluster && metadataMessage(view.cluster.metadata ?? {});
    case "upstream_host_metadata":
      return view.endpoint && metadataMessage(view.endpoint.metadata ?? {});
    default:
      return undefined;
  }
}
