import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { readObjects } from "../../../collector/identity/files.ts";
import { AddressIndex } from "../../../collector/identity/lookup.ts";
import { noObjects, type Objects } from "../../../collector/identity/objects.ts";
import { pod, RULES } from "./cluster.ts";

const FIXTURES = join(import.meta.dirname, "../../fixtures/kubernetes");

async function readFixtures(): Promise<{ objects: Objects; skipped: number }> {
  const objects = noObjects();
  let skipped = 0;
  for (const file of ["cluster.yaml", "istio.yaml", "endpoints.json"]) {
    skipped += await readObjects(readFileSync(join(FIXTURES, file), "utf8"), objects);
  }
  return { objects, skipped };
}

test("all kinds are read as kubectl prints them; others, also of the same name in another group, are skipped and counted", async () => {
  const { objects, skipped } = await readFixtures();
  const counts = Object.fromEntries(Object.entries(objects).map(([kind, { size }]) => [kind, size]));
  expect(counts).toEqual({
    Pod: 3,
    Service: 2,
    EndpointSlice: 1,
    Endpoints: 1,
    Node: 1,
    ServiceEntry: 1,
    WorkloadEntry: 1,
  });
  expect(skipped).toBe(2);
});

test.each([
  [
    "a deployment's pod, not ready",
    "10.244.0.5",
    "pod",
    "reviews.default",
    "reviews-v1-7d4c6b9f8d-x2x4z.default",
    "reviews-v1",
  ],
  ["the same by IPv6", "fd00:10:244::5", "pod", "reviews.default", "reviews-v1-7d4c6b9f8d-x2x4z.default", "reviews-v1"],
  ["a cron job's pod", "10.244.0.6", "pod", "batch.jobs", "report-29012345-abcde.jobs", "report"],
  ["a cluster IP", "10.96.0.20", "service", "reviews.default", "10.96.0.20", ""],
  ["a cluster IP of the second family", "fd00:10:96::20", "service", "reviews.default", "fd00:10:96::20", ""],
  ["a service entry's block", "198.51.100.9", "service_entry", "payments.partners", "198.51.100.9", ""],
  ["a service entry's endpoint", "203.0.113.77", "service_entry", "payments.partners", "203.0.113.77", ""],
  ["a workload entry", "172.16.0.9", "workload_entry", "legacy.vms", "172.16.0.9", "legacy-vm-1"],
  ["an address in Endpoints", "172.20.0.5", "service", "external-db.default", "172.20.0.5", ""],
  ["one there that is not ready", "172.20.0.6", "service", "external-db.default", "172.20.0.6", ""],
])("%s is named", async (_name, address, kind, service, instance, workload) => {
  const index = new AddressIndex((await readFixtures()).objects, RULES);
  expect(index.find(address, 80)).toMatchObject({ kind, service, instance, workload });
});

test("a node is nobody, its host-network pod's port is the pod", async () => {
  const index = new AddressIndex((await readFixtures()).objects, RULES);
  expect(index.find("203.0.113.10", 443)).toBeNull();
  expect(index.find("192.168.1.10", 40000)).toBeNull();
  expect(index.find("192.168.1.10", 9100)).toMatchObject({ workload: "exporter", service: "exporter.monitoring" });
});

describe("a pod's workload is", () => {
  const owned = (kind: string, name: string, labels: Record<string, string> = {}, controller = true) => {
    const made = pod("p", ["10.0.0.1"], { labels });
    return { ...made, metadata: { ...(made["metadata"] as object), ownerReferences: [{ kind, name, controller }] } };
  };
  test.each([
    ["the deployment of a replica set", owned("ReplicaSet", "web-v1-5f6", { "pod-template-hash": "5f6" }), "web-v1"],
    ["the replica set without a deployment", owned("ReplicaSet", "web-v1"), "web-v1"],
    ["the stateful set", owned("StatefulSet", "db"), "db"],
    ["the cron job of a job", owned("Job", "report-29012345"), "report"],
    ["the job without a cron job", owned("Job", "migrate-3"), "migrate-3"],
    ["the deployment config", owned("ReplicationController", "web-3", { deploymentconfig: "web" }), "web"],
    ["the pod itself where its owner is no controller", owned("Node", "node-a", {}, false), "p"],
    ["the pod itself without an owner", pod("p", ["10.0.0.1"]), "p"],
  ])("%s", async (_rule, object, expected) => {
    const objects = noObjects();
    await readObjects(JSON.stringify(object), objects);
    expect(objects.Pod.get("default/p")?.workload).toBe(expected);
  });
});

test("items of a PodList, which name no kind themselves, are pods", async () => {
  const objects = noObjects();
  const { kind: _kind, apiVersion: _version, ...item } = pod("a", ["10.0.0.1"]);
  await readObjects(JSON.stringify({ kind: "PodList", apiVersion: "v1", items: [item] }), objects);
  expect([...objects.Pod.keys()]).toEqual(["default/a"]);
});

describe("a file is refused, and says why:", () => {
  test.each([
    ["an empty one", " \n", /^empty/],
    ["broken JSON", '{"kind": "List", "items": [', /JSON/],
    ["broken YAML, with the line", "kind: Pod\nmetadata:\n  name: [a\n", /^line 4: /],
    ["broken YAML of a later document, with the line", "kind: Pod\nmetadata: {name: a}\n---\nkind: [\n", /^line 5: /],
    [
      "a broken item of a list, with the line",
      "items:\n- kind: Pod\n  metadata: {name: a}\n- kind: [Pod\nkind: List\n",
      /^line 4: /,
    ],
    ["a list that is cut off", "apiVersion: v1\nitems:\n- kind: Pod\n  metadata: {name: a}\n", /cut off/],
    ["a text", "hello", /an object: found "hello", expected a mapping/],
    ["an object without a kind", "metadata: {name: a}", /kind: found undefined, expected a text such as Pod/],
    ["an object without a name", "kind: Node\napiVersion: v1", /Node: metadata\.name: found "", expected a name/],
    ["a list where there is none", "kind: List\nitems: 5", /items: expected a list/],
    ["aliases", "kind: Pod\nmetadata: &m {name: a}\nspec: *m", /line 1: .*alias/i],
    [
      "a field of another shape",
      "kind: Pod\napiVersion: v1\nmetadata: {name: a, namespace: b}\nstatus: {podIPs: 5}",
      /^Pod b\/a: status\.podIPs: found 5, expected a list$/,
    ],
    [
      "a label that is no text",
      "kind: Pod\napiVersion: v1\nmetadata: {name: a, labels: {v: 1}}",
      /metadata\.labels\.v: found 1, expected a text/,
    ],
  ])("%s", async (_name, text, reason) => {
    await expect(readObjects(text, noObjects())).rejects.toMatchObject({
      code: "message_malformed",
      message: expect.stringMatching(reason),
    });
  });
});
