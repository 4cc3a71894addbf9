// Shared with the collector: keep portable (filter/vocabulary/README.md).
// Names inside other names: the rules by which a label is taken out of a SPIFFE id or a host.

/** `ns1` of `spiffe://cluster.local/ns/ns1/sa/default`; "" for another form. */
export function spiffeNamespace(principal: string): string {
  const start = principal.indexOf("/ns/");
  if (start < 0) return "";
  const end = principal.indexOf("/sa/", start + 4);
  return end < 0 ? "" : principal.substring(start + 4, end);
}

/** `reviews` of `reviews.default.svc.cluster.local`: what a service is called when only its host is known. */
export function firstSegment(host: string): string {
  const dot = host.indexOf(".");
  return dot < 0 ? host : host.substring(0, dot);
}
