// Messages that are whole and all different: they fill every table to its bound, so that what grows after that is a leak.

import { values } from "../collector/labels.ts";
import { bytesState, encodeMessage, structFields } from "../fixtures/als.ts";
import { encodeObservation, encodeTcpObservation } from "../fixtures/observation.ts";

const START_MS = Date.now() - 60_000;

/** With a service, an instance, an endpoint, an edge, a label set of HTTP, one of TCP and a connection that only `number` names. */
export function fillingMessage(number: number, proxy: number): Buffer {
  const name = `filling-${number}`;
  const id = `sidecar~10.1.0.${proxy}~proxy-${proxy}.ns~ns.svc.cluster.local`;
  const metadata = { NAME: name, NAMESPACE: "ns", WORKLOAD_NAME: name, LABELS: { app: name } };
  const labels = values({ reporter: "destination", source_workload: name, destination_workload: "filling" });
  const observation = encodeObservation({
    startMs: START_MS,
    durationMs: 5,
    requestBytes: 10,
    responseBytes: 20,
    labels,
  });
  const tcpObservation = encodeTcpObservation({
    startMs: START_MS,
    connectionId: number,
    isClosed: number % 2 === 0, // as room for connections is less than for label sets
    parts: [{ sentBytes: 1, receivedBytes: 2, labels }],
  });
  const request = { requestMethod: 1, authority: "b.ns", path: `/${name}` };
  const common = { upstreamCluster: "inbound|80||" };
  const observed = { filterStateObjects: { "wasm.meshtally.observation": bytesState(observation) } };
  const connection = {
    filterStateObjects: { "wasm.meshtally.observation": bytesState(tcpObservation) },
    accessLogType: 2,
  };
  return encodeMessage({
    identifier: { node: { id, metadata: structFields(metadata) }, logName: "inbound" },
    httpLogs: {
      logEntry: [{ commonProperties: { ...common, ...observed }, request, response: { responseCode: { value: 200 } } }],
    },
    tcpLogs: { logEntry: [{ commonProperties: { ...common, ...connection } }] },
  });
}
