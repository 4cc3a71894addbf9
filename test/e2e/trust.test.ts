// Whose metadata counts, on real Envoy: a gateway before forging clients, mutual TLS asked for on both sides, a namespace that the
// certificate contradicts, a waypoint between two ends. One proxy, one listener per case.

import { readFile } from "node:fs/promises";
import { request as httpRequest, type IncomingHttpHeaders, type OutgoingHttpHeaders } from "node:http";
import { request as httpsRequest } from "node:https";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { PEER_ID_HEADER, PEER_METADATA_HEADER } from "../../collector/vocabulary.ts";
import { type CertificateFiles, writeCertificates } from "../../demo/certificates.ts";
import { type Config, filterConfig, socketAddress, statsConfig } from "../../demo/telemetry-config.ts";
import { spiffeId, type Workload } from "../../demo/topology.ts";
import { filterWasmPath } from "../../envoy/project.ts";
import { decodeMetadata, encodeMetadata } from "../host/mesh.ts";
import { parseExposition, type Sample } from "./exposition.ts";
import { type LoneProxy, type Places, startLoneProxy } from "./lone-proxy.ts";
import { settled } from "./observed.ts";

const CASE_HEADER = "x-case";
const CALLER = workload("caller", "default");
const SERVER = workload("server", "default");
const OWN_ID = "router~127.0.0.1~edge-1.edge~edge.svc.cluster.local";

/** What the client, or the application on its answer, claims to be: twice, as a single header and as a second one. */
const FORGED: OutgoingHttpHeaders = {
  [PEER_ID_HEADER]: ["sidecar~forged", "sidecar~again"],
  [PEER_METADATA_HEADER]: [encodeMetadata({ WORKLOAD_NAME: "forged" }), encodeMetadata({ WORKLOAD_NAME: "again" })],
};
const HONEST: OutgoingHttpHeaders = {
  [PEER_ID_HEADER]: "sidecar~caller",
  [PEER_METADATA_HEADER]: encodeMetadata({ NAMESPACE: "default", WORKLOAD_NAME: "caller" }),
};
const CONTRADICTING: OutgoingHttpHeaders = {
  [PEER_METADATA_HEADER]: encodeMetadata({ NAMESPACE: "payments", WORKLOAD_NAME: "contradicting" }),
};

interface Case {
  readonly listener: Listener;
  readonly headers: OutgoingHttpHeaders;
  readonly tls?: "with a client certificate" | "without";
}

const LISTENERS = {
  gateway: { direction: "gateway" },
  "gateway without exchange": { direction: "gateway", metadata_exchange: { directions: [] } },
  "gateway that answers": { direction: "gateway", metadata_exchange: { directions: ["downstream", "upstream"] } },
  server: { direction: "inbound", metadata_exchange: { trust: "mutual_tls" } },
  "client over TLS": { direction: "outbound", metadata_exchange: { trust: "mutual_tls" } },
  "client over plaintext": { direction: "outbound", metadata_exchange: { trust: "mutual_tls" } },
  waypoint: { reporter: "SERVER_GATEWAY" },
} satisfies Record<string, Config>;
type Listener = keyof typeof LISTENERS;

const CASES = {
  "gateway, forged": { listener: "gateway", headers: FORGED },
  "gateway without exchange, forged": { listener: "gateway without exchange", headers: FORGED },
  "gateway that answers, forged": { listener: "gateway that answers", headers: FORGED },
  "server, plaintext": { listener: "server", headers: FORGED, tls: "without" },
  "server, proven": { listener: "server", headers: HONEST, tls: "with a client certificate" },
  "server, contradicted": { listener: "server", headers: CONTRADICTING, tls: "with a client certificate" },
  "client, proven": { listener: "client over TLS", headers: {} },
  "client, plaintext": { listener: "client over plaintext", headers: {} },
  "waypoint, honest": { listener: "waypoint", headers: HONEST },
  "waypoint, silent": { listener: "waypoint", headers: {} },
} satisfies Record<string, Case>;
type CaseName = keyof typeof CASES;
const NAMES = Object.keys(CASES) as CaseName[];
/** The client over TLS calls the server's listener: its request is counted at both. */
const COUNTED = NAMES.length + 1;

function workload(name: string, namespace: string): Workload {
  return { name, app: name, version: "v1", namespace, serviceAccount: name, role: "sidecar", host: 1 };
}

let proxy: LoneProxy;
let certificateOf: (workload: Workload) => CertificateFiles;
const answers = new Map<CaseName, IncomingHttpHeaders>();
let samples: Sample[];
let faults: Record<string, number>;

beforeAll(async () => {
  proxy = await startLoneProxy(() => FORGED as unknown as Record<string, string>, configure);
  const ports = await listenerPorts();
  for (const name of NAMES) {
    const { listener, headers, tls }: Case = CASES[name];
    answers.set(name, await call(ports.get(listener) ?? 0, { ...headers, [CASE_HEADER]: name }, tls));
  }
  samples = await settled(
    () => stats("istio_requests_total$"),
    (read) => read.reduce((sum, { value }) => sum + value, 0) >= COUNTED,
  );
  faults = Object.fromEntries(
    (await stats("meshtally_filter_faults_total$")).map(({ labels, value }) => [labels["reason"] ?? "", value]),
  );
});
afterAll(() => proxy?.stop());

async function configure({ admin, inbound, server, folder }: Places): Promise<Config> {
  certificateOf = await writeCertificates([CALLER, SERVER], folder);
  const names = Object.keys(LISTENERS) as Listener[];
  return {
    node: { id: OWN_ID, cluster: "edge", metadata: { NAMESPACE: "edge", WORKLOAD_NAME: "edge" } },
    admin: { address: socketAddress(admin) },
    stats_config: statsConfig(),
    static_resources: {
      listeners: names.map((name) => listener(name, name === "server" ? inbound : "127.0.0.1:0")),
      clusters: names.map((name) => cluster(name, name === "client over TLS" ? inbound : server)),
    },
  };
}

function listener(name: Listener, address: string): Config {
  const tls = { require_client_certificate: false, common_tls_context: tlsContext(certificateOf(SERVER)) };
  return {
    name,
    address: socketAddress(address),
    filter_chains: [
      {
        ...(name === "server" ? { transport_socket: transportSocket("Downstream", tls) } : {}),
        filters: [
          {
            name: "envoy.filters.network.http_connection_manager",
            typed_config: {
              "@type":
                "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
              stat_prefix: "trust",
              route_config: {
                virtual_hosts: [
                  { name: "all", domains: ["*"], routes: [{ match: { prefix: "/" }, route: { cluster: name } }] },
                ],
              },
              http_filters: [
                filter(LISTENERS[name]),
                {
                  name: "envoy.filters.http.router",
                  typed_config: { "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router" },
                },
              ],
            },
          },
        ],
      },
    ],
  };
}

/** All in one VM: which configuration holds is a matter of the listener. */
function filter(plugin: Config): Config {
  const config = JSON.parse(JSON.stringify(filterConfig("inbound", filterWasmPath()))) as {
    typed_config: { config: { configuration: { value: string } } };
  };
  config.typed_config.config.configuration.value = JSON.stringify(plugin);
  return config;
}

/** Each listener has its own, so that the series tell them apart. */
function cluster(name: Listener, address: string): Config {
  const tls = { common_tls_context: tlsContext(certificateOf(CALLER)) };
  return {
    name,
    type: "STATIC",
    metadata: { filter_metadata: { istio: { services: [{ host: name, name, namespace: "default" }] } } },
    load_assignment: {
      cluster_name: name,
      endpoints: [{ lb_endpoints: [{ endpoint: { address: socketAddress(address) } }] }],
    },
    ...(name === "client over TLS" ? { transport_socket: transportSocket("Upstream", tls) } : {}),
  };
}

function transportSocket(side: "Upstream" | "Downstream", context: Config): Config {
  const type = `type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.${side}TlsContext`;
  return { name: "envoy.transport_sockets.tls", typed_config: { "@type": type, ...context } };
}

function tlsContext({ authority, certificate, privateKey }: CertificateFiles): Config {
  return {
    tls_certificates: [{ certificate_chain: { filename: certificate }, private_key: { filename: privateKey } }],
    validation_context: { trusted_ca: { filename: authority } },
  };
}

/** Where Envoy put each listener. */
async function listenerPorts(): Promise<Map<string, number>> {
  const read = (await (await fetch(`${proxy.adminUrl}/listeners?format=json`)).json()) as {
    listener_statuses: { name: string; local_address: { socket_address: { port_value: number } } }[];
  };
  return new Map(
    read.listener_statuses.map(({ name, local_address }) => [name, local_address.socket_address.port_value]),
  );
}

async function call(port: number, headers: OutgoingHttpHeaders, tls: Case["tls"]): Promise<IncomingHttpHeaders> {
  const to = { host: "127.0.0.1", port, headers, agent: false };
  const { authority, certificate, privateKey } = certificateOf(CALLER);
  const [ca, cert, key] = await Promise.all([authority, certificate, privateKey].map((file) => readFile(file)));
  const own = tls === "with a client certificate" ? { cert, key } : {};
  return new Promise((resolve, reject) => {
    const outgoing =
      tls === undefined ? httpRequest(to) : httpsRequest({ ...to, ca, ...own, checkServerIdentity: () => undefined });
    outgoing.on("response", (answer) => answer.resume().on("end", () => resolve(answer.headers)));
    outgoing.on("error", reject);
    outgoing.end();
  });
}

async function stats(name: string): Promise<Sample[]> {
  return parseExposition(await (await fetch(`${proxy.adminUrl}/stats/prometheus?usedonly&filter=${name}`)).text());
}

/** The exchange headers that the application got with a request; the id and the workload's name. */
function receivedBy(name: CaseName): unknown {
  const headers = proxy.received.find((one) => one[CASE_HEADER] === name);
  if (headers === undefined) throw new Error(`${name} did not reach the application`);
  return exchanged(headers);
}

function exchanged(headers: IncomingHttpHeaders | undefined): unknown {
  const id = headers?.[PEER_ID_HEADER];
  const metadata = headers?.[PEER_METADATA_HEADER];
  if (id === undefined && metadata === undefined) return "none";
  return { id, workload: decodeMetadata(String(metadata))["WORKLOAD_NAME"] };
}

/** The labels of the requests that a listener counted. */
function countedBy(name: Listener): Record<string, string>[] {
  return samples.filter(({ labels }) => labels["destination_service"] === name).map(({ labels }) => ({ ...labels }));
}

const OURS = { id: OWN_ID, workload: "edge" };

describe("a gateway before a client that forges", () => {
  test.each<[CaseName, unknown]>([
    ["gateway, forged", OURS],
    ["gateway that answers, forged", OURS],
    ["gateway without exchange, forged", "none"],
  ])("%s: nothing of it reaches the mesh, nothing of the mesh reaches the client", (name, received) => {
    expect(receivedBy(name)).toEqual(received);
    expect(exchanged(answers.get(name))).toBe("none");
  });

  test("counts itself as the source", () => {
    for (const name of ["gateway", "gateway without exchange", "gateway that answers"] as const) {
      expect(countedBy(name).map(({ source_workload }) => source_workload)).toEqual(["edge"]);
    }
  });
});

describe("trust: mutual_tls", () => {
  test("a server learns and answers only a caller with a certificate; its application sees neither's headers", () => {
    expect(exchanged(answers.get("server, plaintext"))).toBe("none");
    expect(exchanged(answers.get("server, proven"))).toEqual(OURS);
    expect(receivedBy("server, plaintext")).toBe("none");
    expect(receivedBy("server, proven")).toBe("none");
    const sources = countedBy("server").map((labels) => [labels["source_workload"], labels["source_principal"]]);
    expect(sources).toContainEqual(["caller", spiffeId(CALLER)]);
    expect(sources).toContainEqual(["unknown", "unknown"]);
    expect(sources.flat()).not.toContain("forged");
  });

  test("a client learns only a server with a certificate", () => {
    expect(countedBy("client over TLS")).toMatchObject([
      { destination_workload: "edge", destination_principal: spiffeId(SERVER) },
    ]);
    expect(countedBy("client over plaintext")).toMatchObject([{ destination_workload: "unknown" }]);
    for (const name of ["client, proven", "client, plaintext"] as const) {
      expect(exchanged(answers.get(name))).toBe("none");
    }
  });

  test("where metadata contradicts the certificate, the certificate's namespace is the label", () => {
    const contradicted = countedBy("server").filter((labels) => labels["source_workload"] === "contradicting");
    expect(contradicted).toMatchObject([{ source_workload_namespace: "default" }]);
  });

  test("each that was not believed is counted, and nothing else went wrong", () => {
    expect(faults).toEqual({
      // A forging client before the gateway that answers and before the server, and the application behind the plaintext client.
      peer_untrusted: 3,
      // The caller that says `payments`; and `edge`, which has the certificates of caller and server, at both ends of the client over TLS.
      peer_contradicts_identity: 3,
    });
  });
});

describe("a waypoint", () => {
  test("hands on what both ends say", () => {
    expect(receivedBy("waypoint, honest")).toEqual({ id: "sidecar~caller", workload: "caller" });
    const answer = answers.get("waypoint, honest");
    expect(answer?.[PEER_ID_HEADER]).toBe("sidecar~forged, sidecar~again");
  });

  test("speaks for itself where the caller says nothing, so that the server counts the call as one that is reported", () => {
    expect(receivedBy("waypoint, silent")).toEqual(OURS);
    expect(exchanged(answers.get("waypoint, silent"))).toBe("none");
  });
});
