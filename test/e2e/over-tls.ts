// A cluster of the collector as deploy/envoy-tls-cluster.yaml has it.

import type { CertificateFiles } from "../../demo/certificates.ts";
import type { Config } from "../../demo/telemetry-config.ts";

/** The collector's certificate names collector.test, of the client's authority. With `isMutual` the proxy shows the client's. */
export function overTls(
  cluster: Config,
  { authority, certificate, privateKey }: CertificateFiles,
  isMutual = true,
): Config {
  const own = { certificate_chain: { filename: certificate }, private_key: { filename: privateKey } };
  return {
    ...cluster,
    transport_socket: {
      name: "envoy.transport_sockets.tls",
      typed_config: {
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
        sni: "collector.test",
        common_tls_context: {
          tls_certificates: isMutual ? [own] : [],
          validation_context: {
            trusted_ca: { filename: authority },
            match_typed_subject_alt_names: [{ san_type: "DNS", matcher: { exact: "collector.test" } }],
          },
        },
      },
    },
  };
}
