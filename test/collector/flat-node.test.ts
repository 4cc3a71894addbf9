import { expect, test } from "vitest";
import { decodeFlatNode } from "../../collector/proto/flat-node.ts";
import { encodeFlatNode } from "../fixtures/flat-node.ts";

function decode(bytes: Buffer) {
  return decodeFlatNode(bytes, 0, bytes.length);
}

test("what a builder of another hand writes is read back", () => {
  const bytes = encodeFlatNode({
    name: "reviews-v1-abc",
    namespace: "default",
    owner: "kubernetes://apis/apps/v1/namespaces/default/deployments/reviews-v1",
    workloadName: "reviews-v1",
    istioVersion: "1.23",
    meshId: "mesh",
    clusterId: "Kubernetes",
    labels: { app: "reviews", version: "", "service.istio.io/canonical-name": "é" },
    instanceIps: ["10.0.0.1"],
  });
  expect(decode(bytes)).toEqual({
    name: "reviews-v1-abc",
    namespace: "default",
    workloadName: "reviews-v1",
    clusterId: "Kubernetes",
    labels: new Map([
      ["app", "reviews"],
      ["version", ""],
      ["service.istio.io/canonical-name", "é"],
    ]),
  });
});

test("absent fields are empty", () => {
  const nothing = { name: "", namespace: "", workloadName: "", clusterId: "", labels: new Map() };
  expect(decode(encodeFlatNode({}))).toEqual(nothing);
  expect(decode(encodeFlatNode({ name: "a" }))).toEqual({ ...nothing, name: "a" });
});

test("a vtable that ends before a slot leaves it absent: an older schema is read too", () => {
  const bytes = encodeFlatNode({ namespace: "ns", clusterId: "c" });
  const root = bytes.readUInt32LE(0);
  const vtable = root - bytes.readInt32LE(root);
  bytes.writeUInt16LE(4 + 2 * 5, vtable);
  expect(decode(bytes)).toMatchObject({ namespace: "ns", clusterId: "" });
});

test("it lies anywhere in a larger buffer", () => {
  const node = encodeFlatNode({ namespace: "ns" });
  const bytes = Buffer.concat([Buffer.alloc(3, 0xff), node, Buffer.alloc(5, 0xff)]);
  expect(decodeFlatNode(bytes, 3, 3 + node.length)).toMatchObject({ namespace: "ns" });
});

test("no prefix of a node is taken for something else than it is, or read past its end", () => {
  const node = encodeFlatNode({ namespace: "ns", workloadName: "w", clusterId: "c", labels: { app: "a" } });
  const whole = decode(node);
  for (let length = 0; length < node.length; length++) {
    const cut = decode(node.subarray(0, length));
    if (cut !== null) expect(cut).toEqual(whole);
  }
  expect(decode(Buffer.alloc(0))).toBeNull();
});

test("labels beyond 256, and texts beyond 4 KiB, are refused: a small buffer must not unfold to much", () => {
  const labels = (count: number) => Object.fromEntries(Array.from({ length: count }, (_, i) => [`label${i}`, "x"]));
  expect(decode(encodeFlatNode({ labels: labels(256) }))?.labels.size).toBe(256);
  expect(decode(encodeFlatNode({ labels: labels(257) }))).toBeNull();
  expect(decode(encodeFlatNode({ namespace: "x".repeat(4096) }))?.namespace.length).toBe(4096);
  expect(decode(encodeFlatNode({ namespace: "x".repeat(4097) }))).toBeNull();
});

test("a table that is its own label, and offsets that lead backwards past the start, end at once", () => {
  const bytes = encodeFlatNode({ namespace: "ns", labels: { app: "a" } });
  const root = bytes.readUInt32LE(0);
  bytes.writeInt32LE(2_000_000_000, root);
  expect(decode(bytes)).toBeNull();
  bytes.writeInt32LE(-2_000_000_000, root);
  expect(decode(bytes)).toBeNull();
  bytes.writeUInt32LE(0xffffffff, 0);
  expect(decode(bytes)).toBeNull();
});
