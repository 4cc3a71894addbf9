// What expressions read as, on a real Envoy (test/e2e/expression.test.ts) and in the host emulator alike.

import type { Node } from "../../host/property.ts";

/** The proxy they are evaluated in; its workload stands for both peers. */
export const CASE_NODE: Node = {
  id: "sidecar~10.0.0.9~lone-1.default~default.svc.cluster.local",
  cluster: "lone",
  metadata: {
    NAME: "lone-1",
    NAMESPACE: "default",
    WORKLOAD_NAME: "lone",
    CLUSTER_ID: "test",
    OWNER: "kubernetes://apis/apps/v1/namespaces/default/deployments/lone",
    LABELS: { app: "lone", "example.com/role": "test" },
  },
};

/** The request: headers besides `:` ones. The server adds `x-answer: yes`. */
export const CASE_HEADERS: Readonly<Record<string, string>> = { "x-there": "here" };
export const CASE_HOST = "server.example";
export const CASE_PATH = "/path?q=1";
export const CASE_CLUSTER = {
  name: "inbound|80||",
  metadata: { istio: { services: [{ name: "server" }] } },
};

/** Expression -> what it reads as; `refused` when it does not compile. */
export const CASES: Readonly<Record<string, string>> = {
  "request.host": "server.example",
  "request.method + ' ' + request.path": "GET /path?q=1",
  "request.url_path": "/path",
  "request.headers['x-there']": "here",
  "request.headers['x-there'] // as sent": "here",
  "request.headers['x-absent']": "unknown",
  "'x-there' in request.headers": "true",
  "has(request.referer)": "false",
  "request.headers.exists(node, node == 'x-there')": "true",
  "response.code": "200",
  "response.code >= 200 && response.code < 300": "true",
  "response.code == 200 ? 'fine' : 'bad'": "fine",
  "response.headers['x-answer']": "yes",
  "response.trailers['x-absent']": "unknown",
  "string(destination.port).matches('^[0-9]+$')": "true",
  "connection.mtls": "false",
  "upstream.uri_san_peer_certificate": "unknown",
  "filter_state.upstream_peer.workload": "lone",
  "filter_state['upstream_peer'].type": "deployment",
  "filter_state['wasm.downstream_peer'].namespace": "default",
  "filter_state.downstream_peer.region": "unknown",
  "upstream_peer.labels['example.com/role'].value": "test",
  "upstream_peer.labels['absent'].value": "unknown",
  "downstream_peer.workload_name == 'lone' && downstream_peer.cluster_id == 'test'": "true",
  "has(filter_state.upstream_peer)": "true",
  "'upstream_peer' in filter_state": "true",
  "node.id": "sidecar~10.0.0.9~lone-1.default~default.svc.cluster.local",
  "node.metadata['NAME']": "lone-1",
  "node.metadata['ABSENT']": "unknown",
  "node.metadata['LABELS'].app": "lone",
  cluster_name: "inbound|80||",
  route_name: "default",
  listener_direction: "1",
  "cluster_metadata.filter_metadata['istio'].services[0].name": "server",
  "upstream_host_metadata.filter_metadata.istio.workload": "unknown",
  istio_operationId: "unknown",
  "filter_state['wasm.istio_responseClass']": "unknown",
  "metadata.filter_metadata['absent']['x']": "unknown",
  "1 + 2": "3",
  "5u": "5",
  "1.5": "1.5",
  "b'bytes'": "bytes",
  '"größe"': "größe",
  // These parse and cannot be evaluated, or not as text.
  "istio_operationId == 'ListBooks'": "unknown",
  "upstream_peer.nosuch + 'x'": "unknown",
  "nosuch.x": "unknown",
  "has(nosuch.x)": "unknown",
  "1 / 0": "unknown",
  "[1, 2]": "unknown",
  "request.headers": "unknown",
  null: "unknown",
  // These Envoy does not compile.
  "foo(1)": "refused",
  "request.host(": "refused",
  "request.host)": "refused",
  "'a'), string('b'": "refused",
  "string()": "refused",
  "'unterminated": "refused",
  "request.host ==": "refused",
};
