// What the fuzz begins with: captured entries of real Envoys, messages drawn at random, and some that nobody but an attacker sends.

import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { projectRoot } from "../../envoy/project.ts";
import {
  bytesState,
  encodeMessage,
  encodeStruct,
  type Fields,
  lengthDelimited,
  structFields,
  structState,
  textState,
} from "../fixtures/als.ts";
import { type Random, randomIdentifier, randomMessage } from "../fixtures/als-random.ts";
import { encodeFlatNode } from "../fixtures/flat-node.ts";

const CAPTURED = join(projectRoot(), "test", "fixtures", "envoy-als");
const RANDOM_MESSAGES = 300;
const NODES = [
  "sidecar~10.0.0.7~a.ns~ns.svc.cluster.local",
  "router~10.0.0.8~gw.ns~ns.svc.cluster.local",
  "waypoint~1~w.ns~x",
];

const HTTP_LOGS = 2;
const LOG_ENTRY = 1;

export function fuzzCorpus(draw: Random): Buffer[] {
  const random = Array.from({ length: RANDOM_MESSAGES }, () => encodeMessage(randomMessage(draw)));
  return [...captured(draw), ...random, ...peers(), ...prototypeKeys()];
}

/** Each captured entry as a message of its own, of each kind of node. */
function captured(draw: Random): Buffer[] {
  const files = readdirSync(CAPTURED).filter((name) => name.endsWith(".bin"));
  const entries = files.map((name) => readFileSync(join(CAPTURED, name)));
  return entries.flatMap((entry) =>
    NODES.map((id) => {
      const identifier = randomIdentifier(draw);
      const head = encodeMessage({ identifier: { ...identifier, node: { ...(identifier["node"] as Fields), id } } });
      return Buffer.concat([head, lengthDelimited(HTTP_LOGS, lengthDelimited(LOG_ENTRY, entry))]);
    }),
  );
}

/** A peer in every encoding: collector/proto/peer-bytes.ts. */
function peers(): Buffer[] {
  const labels = { app: "reviews", version: "v1", "service.istio.io/canonical-name": "reviews" };
  const flatNode = encodeFlatNode({ name: "a", namespace: "ns", workloadName: "w", clusterId: "c", labels });
  const fields = { NAME: "a", NAMESPACE: "ns", WORKLOAD_NAME: "w", LABELS: labels };
  const struct = encodeStruct(fields);
  const states = [
    ...[flatNode, struct].flatMap((bytes) => [
      bytesState(bytes),
      bytesState(Buffer.from(bytes.toString("base64"))),
      textState(bytes.toString("base64")),
      textState(bytes.toString("base64url")),
    ]),
    structState(fields),
  ];
  return states.map((state, i) =>
    messageOf(NODES[i % NODES.length] as string, { upstream_peer: state, downstream_peer: state }),
  );
}

/** Stands for "__proto__", of which a JavaScript encoder would make a prototype instead of a key. */
const PROTO = "PROTO_KEY";

/** Names of JavaScript's own wherever a message has a name. */
function prototypeKeys(): Buffer[] {
  return [PROTO, "constructor", "prototype"].map((key) => {
    const own = { [key]: { polluted: "yes" }, LABELS: { [key]: key } };
    const states = {
      [key]: structState(own),
      upstream_peer: structState({ NAME: key, ...own }),
      downstream_peer: bytesState(encodeFlatNode({ name: key, labels: { [key]: key } })),
    };
    const bytes = messageOf(key, states, own);
    return Buffer.from(bytes.toString("latin1").replaceAll(PROTO, "__proto__"), "latin1");
  });
}

function messageOf(id: string, filterStateObjects: Fields, metadata: Fields = { NAME: id }): Buffer {
  const commonProperties = {
    filterStateObjects,
    upstreamCluster: "outbound|80||b.ns.svc.cluster.local",
    accessLogType: 6,
  };
  const request = { requestMethod: 1, authority: "b.ns", path: `/${id}/1`, requestHeaders: { [id]: id } };
  return encodeMessage({
    identifier: { node: { id, metadata: structFields(metadata) }, logName: "outbound" },
    httpLogs: { logEntry: [{ commonProperties, request, response: { responseCode: { value: 200 } } }] },
  });
}
