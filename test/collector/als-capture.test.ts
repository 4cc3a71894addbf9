// The promise on which the unification rests: what is derived from a log entry is what the filter counted for it. Checked on
// entries of a real Envoy (fixtures/envoy-als), each of which holds both.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { EntryScan, HttpEntry } from "../../collector/proto/als-entry.ts";
import { AlsDecoder, type Sender } from "../../collector/record/from-als.ts";
import type { AccessRecord } from "../../collector/record/record.ts";
import { unpackLabels, withoutMark } from "../../collector/series/key.ts";
import { LABELS } from "../../collector/vocabulary.ts";
import { differences, withoutObservation } from "../fixtures/derived.ts";

const NODE = {
  nodeId: "sidecar~127.0.0.1~a.ns-a~ns-a.svc.cluster.local",
  metadata: {
    texts: new Map([
      ["name", "a"],
      ["namespace", "ns-a"],
      ["workload_name", "wl-a"],
      ["cluster_id", "Kubernetes"],
    ]),
    labels: new Map([
      ["app", "a"],
      ["app.kubernetes.io/name", "aa"],
      ["version", "v3"],
      ["service.istio.io/canonical-name", "a"],
    ]),
  },
};

function load(name: string): Buffer {
  return readFileSync(join(import.meta.dirname, "../fixtures/envoy-als", `${name}.bin`));
}

/** The one record of an entry, and where its labels came from. */
function decode(name: string, bytes: Buffer): AccessRecord & { readonly labels: string } {
  const decoder = new AlsDecoder();
  const sender: Sender = decoder.identify({ ...NODE, logName: name });
  const records: AccessRecord[] = [];
  const outcome = decoder.decode(bytes, 0, bytes.length, sender, (record) => {
    records.push(record);
    return null;
  });
  const [record] = records;
  if (!record || records.length > 1) throw new Error(`${name}: ${outcome}, ${records.length} records`);
  return { ...record, labels: outcome };
}

function labelsOf(record: AccessRecord): Record<string, string> {
  const values = unpackLabels(record.labelKey) ?? [];
  return Object.fromEntries(LABELS.map((label, i) => [label, values[i] as string]));
}

test.each([
  ["outbound-200", "200", "-", "wl-a", "b"],
  ["inbound-200", "200", "-", "wl-a", "a"],
  ["outbound-direct-response", "418", "-", "unknown", "127.0.0.1:28181"],
  ["outbound-no-cluster", "503", "NC", "unknown", "127.0.0.1:28181"],
  ["outbound-connection-refused", "503", "UF,URX", "unknown", "127.0.0.1:28181"],
  ["outbound-timeout", "504", "UT", "w", "b"],
  ["inbound-caller-gone", "0", "DC", "wl-a", "a"],
  ["inbound-connection-lost", "503", "UC", "wl-a", "a"],
  ["inbound-grpc-local-reply", "200", "UC", "wl-a", "a"],
  ["outbound-grpc-status-5", "200", "-", "wl-a", "b"],
  ["inbound-caller-without-sidecar", "200", "-", "unknown", "a"],
  ["outbound-reset-by-caller", "0", "DR", "w", "b"],
])("%s: derived is observed, in all labels and numbers", (name, code, flags, peer, service) => {
  const bytes = load(name);
  const observed = decode(name, bytes);
  const derived = decode(name, withoutObservation("http", bytes));
  expect(observed.labels).toBe("observation");
  expect(differences(labelsOf(observed), labelsOf(derived))).toEqual({}); // by name, where they are not the same
  const unmarked = { ...derived, labelKey: withoutMark(derived.labelKey) }; // the mark is of mesh_* alone
  expect(unmarked).toEqual({ ...observed, lifeMs: 0, labels: "derived" });
  expect(labelsOf(derived)).toMatchObject({
    response_code: code,
    response_flags: flags,
    destination_service_name: service,
    [name.startsWith("inbound") ? "source_workload" : "destination_workload"]: peer,
  });
});

test.each([
  // Only Envoy itself knows that a 200 had no status: an entry without one may come of a logger that was not told to log it.
  ["outbound-grpc-without-status", { grpc_response_status: { observed: "2", derived: "" } }],
  // The log's ResponseFlags have no field for it.
  ["outbound-dropped", { response_flags: { observed: "UDO", derived: "-" } }],
])("%s: here the entry does not say all that the filter saw", (name, differing) => {
  const bytes = load(name);
  const observed = labelsOf(decode(name, bytes));
  const derived = labelsOf(decode(name, withoutObservation("http", bytes)));
  expect(differences(observed, derived)).toEqual(differing);
});

test("the filter's peers are readable, each on its own side", () => {
  const bytes = load("inbound-200");
  const entry = new HttpEntry();
  expect(entry.read(bytes, 0, bytes.length)).toBe(true);
  expect([entry.wasmDownstreamPeer.kind, entry.wasmUpstreamPeer.kind]).toEqual(["bytes", "none"]);
  const scan = new EntryScan();
  expect(scan.read(bytes, 0, bytes.length)).toBe(true);
  expect(scan.accessLogType).toBe(6);
});
