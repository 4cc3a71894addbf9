import { describe, expect, test } from "vitest";
import type { AddressIndex } from "../../../collector/identity/lookup.ts";
import { nameRule } from "../../../collector/identity/names.ts";
import { random } from "../../property/random.ts";
import { indexOf, node, pod, RULES, service, serviceEntry, slice, who, workloadEntry } from "./cluster.ts";

const A = "10.0.0.1";

describe("a host is", () => {
  const INDEX = indexOf([
    service("db", "10.96.0.1"),
    service("headless", "None"),
    serviceEntry("payments", { hosts: ["payments.example.com", "*.pay.example.com", "db.default.svc.cluster.local"] }),
  ]);
  test.each([
    ["a Service's", "db.default.svc.cluster.local", "service db"],
    ["a headless Service's", "headless.default.svc.cluster.local", "service headless"],
    ["a ServiceEntry's", "payments.example.com", "service_entry payments"],
    ["a ServiceEntry's by its wildcard", "a.b.pay.example.com", "service_entry payments"],
    ["nobody's that is only the end of a wildcard", "pay.example.com", null],
    ["nobody's in another namespace", "db.other.svc.cluster.local", null],
    ["nobody's that nobody has", "example.com", null],
  ])("%s", (_rule, host, expected) => expect(who(INDEX.findHost(host))).toBe(expected));
});

test("a pod is found by its name, whatever its address, unless it has ended", () => {
  const index = indexOf([
    pod("a", [A], { spec: { hostNetwork: true } }),
    pod("b", ["10.0.0.2"], { phase: "Succeeded" }),
  ]);
  expect(who(index.findPod("default", "a"))).toBe("pod a");
  expect(index.findPod("other", "a")).toBeNull();
  expect(index.findPod("default", "b")).toBeNull();
});

test("only a node's address is shared", () => {
  const index = indexOf([node("192.168.1.1"), pod("a", [A])]);
  expect(
    ["192.168.1.1", "::ffff:192.168.1.1", "192.168.1.10", A, "1.2.3.4", "x"].map((text) => index.isShared(text)),
  ).toEqual([true, true, true, false, false, false]);
});

test("a Service's node port is its own on every node, but not before a pod's", () => {
  const lb = service("lb", "10.96.0.9");
  const ports = [{ port: 80, nodePort: 30080 }, { port: 81 }, { port: 82, nodePort: 30082 }];
  const containers = [{ ports: [{ containerPort: 80, hostPort: 30082 }] }];
  const index = indexOf([
    { ...lb, spec: { clusterIP: "10.96.0.9", ports } },
    node("192.168.1.1", "192.168.1.2"),
    pod("a", [A], { spec: { containers }, hostIP: "192.168.1.2" }),
  ]);
  expect(who(index.find("192.168.1.1", 30080))).toBe("service lb");
  expect(who(index.find("192.168.1.1", 30082))).toBe("service lb");
  expect(who(index.find("192.168.1.2", 30082))).toBe("pod a");
  expect(index.find("192.168.1.1", 0)).toBeNull();
  expect(index.find("192.168.1.3", 30080)).toBeNull();
});

describe("an address is", () => {
  test.each([
    ["a pod's", [pod("a", [A])], A, "pod a"],
    ["a pod's, by its second family too", [pod("a", [A, "fd00::1"])], "fd00::1", "pod a"],
    ["the same in another spelling", [pod("a", ["fd00::1"])], "FD00:0:0:0:0:0:0:1", "pod a"],
    ["the same mapped into IPv6", [pod("a", [A])], `::ffff:${A}`, "pod a"],
    ["nobody's of a pod that is done", [pod("a", [A], { phase: "Succeeded" })], A, null],
    ["nobody's of a pod that failed", [pod("a", [A], { phase: "Failed" })], A, null],
    ["nobody's that nobody has", [pod("a", [A])], "10.0.0.2", null],
    ["nobody's that is no address", [pod("a", [A])], "a.example", null],
    [
      "a workload entry's",
      [workloadEntry("vm", "172.16.0.9", { app: "legacy" })],
      "172.16.0.9",
      "workload_entry legacy",
    ],
    ["a pod's before a workload entry's", [workloadEntry("vm", A, {}), pod("a", [A])], A, "pod a"],
    ["a service's cluster IP", [service("db", "10.96.0.1")], "10.96.0.1", "service db"],
    ["none of a headless service's", [service("db", "None")], "None", null],
    ["a service's endpoint without a pod", [service("db", "None"), slice("db", [A])], A, "service db"],
    ["nobody's of a slice without its service", [slice("db", [A])], A, null],
  ])("%s", (_rule, objects, address, expected) => {
    expect(who(indexOf(objects).find(address, 80))).toBe(expected);
  });

  test.each([
    [
      "of two running pods the newer one's",
      "Running",
      "2026-01-01T00:00:00Z",
      "Running",
      "2026-01-02T00:00:00Z",
      "pod b",
    ],
    [
      "of a newer pod that is done and a running one the latter's",
      "Running",
      "2026-01-01T00:00:00Z",
      "Succeeded",
      "2026-01-02T00:00:00Z",
      "pod a",
    ],
    [
      "of a newer pod that pends and a running one the latter's",
      "Running",
      "2026-01-01T00:00:00Z",
      "Pending",
      "2026-01-02T00:00:00Z",
      "pod a",
    ],
  ])("reused: %s", (_rule, phaseA, startA, phaseB, startB, expected) => {
    const pods = [
      pod("a", [A], { phase: phaseA, startTime: startA }),
      pod("b", [A], { phase: phaseB, startTime: startB }),
    ];
    expect(who(indexOf(pods).find(A, 80))).toBe(expected);
    expect(who(indexOf(pods.reverse()).find(A, 80))).toBe(expected);
  });
});

describe("a node's address", () => {
  const HOST = "192.168.1.10";
  const hostNetwork = { hostNetwork: true, containers: [{ ports: [{ containerPort: 9100 }] }] };
  const hostPort = { containers: [{ ports: [{ containerPort: 80, hostPort: 8080 }] }] };
  const exporter = pod("exporter", [HOST], { spec: hostNetwork });
  const ingress = pod("ingress", [A], { spec: hostPort });

  test.each([
    ["names nobody: all on it share it", [node(HOST)], HOST, 80, null],
    ["names nobody although a pod has it, too", [node(HOST), exporter], HOST, 40000, null],
    ["names nobody where only pods tell of the node", [exporter], HOST, 40000, null],
    ["with the port of a host-network pod is that pod's", [node(HOST), exporter], HOST, 9100, "pod exporter"],
    ["with the host port of a pod is that pod's", [node(HOST), ingress], HOST, 8080, "pod ingress"],
    ["with a container's port is nobody's", [node(HOST), ingress], HOST, 80, null],
    ["of a pod with a host port is the pod's own, beside the node's", [node(HOST), ingress], A, 80, "pod ingress"],
    [
      "is the service entry's that names it",
      [node(HOST), serviceEntry("se", { addresses: [HOST] })],
      HOST,
      80,
      "service_entry se",
    ],
  ])("%s", (_rule, objects, address, port, expected) => {
    expect(who(indexOf(objects).find(address, port))).toBe(expected);
  });
});

describe("a service entry", () => {
  const find = (addresses: readonly string[], address: string) =>
    who(indexOf([serviceEntry("se", { addresses })]).find(address, 80));
  test.each([
    ["10.1.0.0/16", "10.1.0.0", true],
    ["10.1.0.0/16", "10.1.255.255", true],
    ["10.1.0.0/16", "10.0.255.255", false],
    ["10.1.0.0/16", "10.2.0.0", false],
    ["10.1.2.3/16", "10.1.0.1", true],
    ["10.1.0.4/31", "10.1.0.4", true],
    ["10.1.0.4/31", "10.1.0.5", true],
    ["10.1.0.4/31", "10.1.0.3", false],
    ["10.1.0.4/31", "10.1.0.6", false],
    ["10.1.0.4/32", "10.1.0.4", true],
    ["10.1.0.4/32", "10.1.0.5", false],
    ["0.0.0.0/0", "255.255.255.255", true],
    ["0.0.0.0/0", "fd00::1", false],
    ["fd00:1::/32", "fd00:1:ffff::1", true],
    ["fd00:1::/32", "fd00:2::", false],
    ["fd00:1::1/128", "fd00:1:0::1", true],
    ["::/0", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", true],
    ["10.1.0.0/33", "10.1.0.0", false],
  ])("with the block %s: %s belongs to it: %s", (block, address, isInside) => {
    expect(find([block], address)).toBe(isInside ? "service_entry se" : null);
  });

  const WIDE = serviceEntry("wide", { addresses: ["10.0.0.0/8"] });
  const NARROW = serviceEntry("narrow", { addresses: ["10.1.0.0/16"] });
  test.each([
    ["an address of it before pods", [serviceEntry("se", { addresses: [A] }), pod("a", [A])], A, "service_entry se"],
    ["a static endpoint of it", [serviceEntry("se", { endpoints: [{ address: A }] })], A, "service_entry se"],
    ["a /32 of it before pods", [serviceEntry("se", { addresses: [`${A}/32`] }), pod("a", [A])], A, "service_entry se"],
    ["pods before a block around them", [WIDE, pod("a", [A])], A, "pod a"],
    ["the smaller block of two", [WIDE, NARROW], "10.1.2.3", "service_entry narrow"],
    ["the larger block behind the smaller one", [WIDE, NARROW], "10.2.0.0", "service_entry wide"],
    [
      "of two with one block the first by name",
      [serviceEntry("b", { addresses: ["10.0.0.0/8"] }), WIDE],
      A,
      "service_entry b",
    ],
  ])("names %s", (_rule, objects, address, expected) => {
    expect(who(indexOf(objects).find(address, 80))).toBe(expected);
  });

  test("is the service of the workload entries and pods that it selects", () => {
    const selecting = serviceEntry("legacy", { workloadSelector: { labels: { app: "legacy" } } });
    const index = indexOf([selecting, workloadEntry("vm", "172.16.0.9", { app: "legacy", version: "v9" })]);
    expect(index.find("172.16.0.9", 80)).toMatchObject({
      workload: "vm",
      instance: "172.16.0.9",
      service: "legacy.mesh",
      called: { host: "legacy.example.com", name: "legacy.example.com", namespace: "mesh" },
    });
  });
});

test("blocks agree with a search through all of them", () => {
  const draw = random(7);
  const blocks = Array.from({ length: 200 }, () => {
    const bits = 17 + Math.floor(draw() * 14);
    return { address: Math.floor(draw() * 2 ** 16), bits };
  });
  const text = (low: number) => `10.0.${low >>> 8}.${low & 255}`;
  const entries = blocks.map(({ address, bits }, i) =>
    serviceEntry(`se-${String(i).padStart(3, "0")}`, { addresses: [`${text(address)}/${bits}`] }),
  );
  const index = indexOf(entries);
  for (let i = 0; i < 5000; i++) {
    const address = Math.floor(draw() * 2 ** 16);
    const holding = blocks
      .map((block, at) => ({ ...block, at }))
      .filter((block) => block.address >>> (32 - block.bits) === address >>> (32 - block.bits))
      .sort((a, b) => b.bits - a.bits || a.at - b.at);
    const expected = holding[0] ? `service_entry se-${String(holding[0].at).padStart(3, "0")}` : null;
    expect(who(index.find(text(address), 80))).toBe(expected);
  }
});

describe("a pod's service is", () => {
  test.each([
    ["the one whose slice has it", [service("reviews", "10.96.0.1"), slice("reviews", [A])], "reviews"],
    ["a headless one", [service("reviews", "None"), slice("reviews", [A])], "reviews"],
    [
      "one with an address before headless ones",
      [service("a", "None"), slice("a", [A]), service("b", "10.96.0.1"), slice("b", [A])],
      "b",
    ],
    [
      "the first by name",
      [service("b", "10.96.0.1"), slice("b", [A]), service("a", "10.96.0.2"), slice("a", [A])],
      "a",
    ],
    ["of its own namespace", [service("other", "10.96.0.1", "elsewhere"), slice("other", [A], "elsewhere")], undefined],
    ["none when none selects it", [], undefined],
  ])("%s", (_rule, objects, expected) => {
    expect(indexOf([pod("a", [A]), ...objects]).find(A, 80)?.called?.name).toBe(expected);
  });

  test("called by its host in the cluster's domain", () => {
    const objects = [service("reviews", "10.96.0.1")];
    const index = indexOf(objects, { ...RULES, domain: "example.org" });
    expect(index.find("10.96.0.1", 80)?.called?.host).toBe("reviews.default.svc.example.org");
  });
});

describe("a pod that no service selects is named by its labels", () => {
  test.each([
    [{ "service.istio.io/canonical-name": "c", "app.kubernetes.io/name": "n", app: "a" }, "c.default"],
    [{ "app.kubernetes.io/name": "n", app: "a" }, "n.default"],
    [{ app: "a" }, "a.default"],
    [{}, "lone.default"],
  ])("%j: %s", (labels, expected) => {
    const identity = indexOf([pod("lone", [A], { labels })]).find(A, 80);
    expect(identity).toMatchObject({
      service: expected,
      instance: "lone.default",
      labels: new Map(Object.entries(labels)),
    });
  });
});

test("names follow the rules, of services and service entries, too", () => {
  const rules = { ...RULES, service: nameRule("<${serviceEntry.metadata.name,service.metadata.name,NAME}>") };
  const index = indexOf(
    [service("db", "10.96.0.1"), serviceEntry("se", { addresses: [A] }), pod("p", ["10.0.0.2"])],
    rules,
  );
  const names = ["10.96.0.1", A, "10.0.0.2"].map((address) => index.find(address, 80)?.service);
  expect(names).toEqual(["<db>", "<se>", "<p>"]);
  expect(index.find(A, 80)?.instance).toBe(A);
});

test("100,000 pods, 1,000 services and 10,000 blocks: each address is its own pod's", () => {
  const started = performance.now();
  const index = largeCluster();
  const built = performance.now();
  let found = 0;
  for (let i = 0; i < PODS; i++) {
    const identity = index.find(podAddress(i), 80);
    if (identity?.pod === `pod-${i}` && identity.called?.name === `service-${i % SERVICES}`) found++;
  }
  const looked = performance.now();
  for (let i = 0; i < BLOCKS; i++) {
    if (who(index.find(`100.${64 + (i >>> 8)}.${i & 255}.77`, 80)) === `service_entry se-${i}`) found++;
  }
  expect(found).toBe(PODS + BLOCKS);
  const perBlock = ((performance.now() - looked) / BLOCKS) * 1000;
  process.stdout.write(
    `index: built in ${(built - started).toFixed(0)} ms, ${(((looked - built) / PODS) * 1000).toFixed(2)} µs an address, ` +
      `${perBlock.toFixed(2)} µs an address in a block\n`,
  );
});

const PODS = 100_000;
const SERVICES = 1000;
const BLOCKS = 10_000;

function podAddress(i: number): string {
  return `10.${i >>> 16}.${(i >>> 8) & 255}.${i & 255}`;
}

function largeCluster(): AddressIndex {
  const pods = Array.from({ length: PODS }, (_, i) =>
    pod(`pod-${i}`, [podAddress(i)], { labels: { app: `app-${i % SERVICES}` } }),
  );
  const services = Array.from({ length: SERVICES }, (_, i) => service(`service-${i}`, `11.0.${i >>> 8}.${i & 255}`));
  const slices = services.map((_, of) =>
    slice(
      `service-${of}`,
      Array.from({ length: PODS / SERVICES }, (_, i) => podAddress(i * SERVICES + of)),
    ),
  );
  const entries = Array.from({ length: BLOCKS }, (_, i) =>
    serviceEntry(`se-${i}`, { addresses: [`100.${64 + (i >>> 8)}.${i & 255}.0/24`] }),
  );
  return indexOf([...pods, ...services, ...slices, ...entries]);
}
