import { mkdir, mkdtemp, rename, rm, writeFile } from "node:fs/promises";
import { createServer, type RequestListener } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { addObject, noObjects } from "../../collector/identity/objects.ts";
import { type Log, silentLog } from "../../collector/log.ts";
import { Discovery } from "../../collector/receiver/scrape/discovery.ts";
import { readTargetGroups } from "../../collector/receiver/scrape/target-groups.ts";
import { adminSpec, type TargetSpec } from "../../collector/receiver/scrape/target-spec.ts";
import { SelfMetrics } from "../../collector/self.ts";

let folder: string;
const closers: (() => Promise<unknown>)[] = [];
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "meshtally-targets-"));
});
afterEach(async () => {
  for (const close of closers.splice(0)) await close();
  await rm(folder, { recursive: true });
});

const urls = (specs: readonly TargetSpec[]) => specs.map(({ statsUrl }) => statsUrl);

/** What the discovery says, as it changes. */
class Found {
  readonly self = new SelfMetrics("test");
  readonly told: { message: string; from?: string; reason?: string }[] = [];
  specs: readonly TargetSpec[] = [];
  readonly discovery: Discovery;

  constructor(options: { targets?: string[]; files?: string[]; urls?: string[]; maxTargets?: number }) {
    const { targets = [], files = [], maxTargets = 100 } = options;
    const error: Log["error"] = (fields, message) => this.told.push({ ...fields, message });
    this.discovery = new Discovery({
      targets,
      fileSd: { files, intervalMs: 20 },
      httpSd: { urls: options.urls ?? [], access: { headers: [], basic: null, bearer: null }, intervalMs: 20 },
      tls: null,
      kubernetes: true,
      maxTargets,
      use: (specs) => {
        this.specs = specs;
      },
      self: this.self,
      log: { ...silentLog, error },
    });
    closers.unshift(() => this.discovery.stop());
  }

  /** Waits until there are these targets, by their ports. */
  async toBe(...ports: number[]): Promise<void> {
    const expected = ports.map((port) => `http://10.0.0.1:${port}/stats/prometheus`);
    await expect.poll(() => urls(this.specs), { timeout: 5000 }).toEqual(expected);
  }

  async results(): Promise<Record<string, number>> {
    const { values } = await this.self.scrapeDiscovery.get();
    return Object.fromEntries(values.map(({ labels, value }) => [`${labels.source} ${labels.result}`, value]));
  }
}

function groups(...ports: number[]): string {
  return JSON.stringify([{ targets: ports.map((port) => `10.0.0.1:${port}`) }]);
}

/** As a file is replaced: at once. */
async function put(name: string, text: string): Promise<void> {
  await writeFile(join(folder, ".new"), text);
  await rename(join(folder, ".new"), join(folder, name));
}

describe("readTargetGroups", () => {
  it("takes addresses as they are, and labels that say how to read them", () => {
    const labels = {
      __scheme__: "https",
      __metrics_path__: "/a/stats/prometheus",
      __param_x: "1&2",
      __param_filter: "a|b",
      __meshtally_node__: "n~1",
      __meshtally_filter__: "false",
      job: "mesh",
    };
    expect(readTargetGroups([{ targets: ["10.0.0.9:15090"] }, { targets: ["[::1]:1", "a.example"], labels }])).toEqual([
      {
        name: "http://10.0.0.9:15090/stats/prometheus",
        statsUrl: "http://10.0.0.9:15090/stats/prometheus",
        serverInfoUrl: "http://10.0.0.9:15090/server_info",
        nodeId: null,
        hasFilter: true,
      },
      ...["[::1]:1", "a.example"].map((address) => ({
        name: `https://${address}/a/stats/prometheus`,
        statsUrl: `https://${address}/a/stats/prometheus?x=1%262&filter=a%7Cb`,
        serverInfoUrl: `https://${address}/a/server_info`,
        nodeId: "n~1",
        hasFilter: false,
      })),
    ]);
    expect(readTargetGroups([{ targets: ["a:1"], labels: { __metrics_path__: "/metrics" } }])).toMatchObject([
      { statsUrl: "http://a:1/metrics", serverInfoUrl: null },
    ]);
    expect(readTargetGroups(null)).toEqual([]);
  });

  it.each<[unknown, string]>([
    [{}, "the top: found"],
    [[7], "[0]: found"],
    [[{}], "[0].targets: found"],
    [[{ targets: ["a:1"] }, { targets: ["b:1", 5] }], "[1].targets[1]: found"],
    [[{ targets: [], labels: { a: 1 } }], "[0].labels.a: found"],
    [[{ targets: [], labels: [] }], "[0].labels: found"],
    [[{ targets: ["a:1"], labels: { __scheme__: "file" } }], "[0].targets[0] __scheme__: found"],
    [[{ targets: ["a:1"], labels: { __metrics_path__: "x" } }], "[0].targets[0] __metrics_path__: found"],
    ...["", "a:b", "me:secret@a:1", "a:1/x", "a:1/", "a?b", "a#b", "a b:1", "http://a:1"].map(
      (address): [unknown, string] => [[{ targets: [address] }], "[0].targets[0]: found"],
    ),
  ])("refuses %j by its place", (value, message) => {
    expect(() => readTargetGroups(value)).toThrow(message);
  });
});

describe("targets from files", () => {
  it("are those of JSON and of YAML, of all that a path with * matches, behind those of the configuration", async () => {
    await put("b.json", groups(2));
    await put("a.json", groups(1, 2));
    await put("c.yaml", "# two\n- targets:\n  - 10.0.0.1:3\n- targets: ['10.0.0.1:4']\n");
    await put("other.txt", "no");
    const files = [join(folder, "*.json"), join(folder, "c.yaml"), join(folder, "a.*")];
    const found = new Found({ targets: ["http://127.0.0.1:9"], files });
    await found.discovery.start();
    expect(found.specs[0]).toEqual(adminSpec("http://127.0.0.1:9"));
    expect(urls(found.specs).map((url) => new URL(url).port)).toEqual(["9", "1", "2", "2", "3", "4"]);
    expect(await found.results()).toEqual({ "file_sd ok": 3 });
    expect((await found.self.scrapeTargets.get()).values.map(({ value }) => value)).toEqual([1, 0, 5, 0]);
  });

  it("change when a file does, come with a new one, and go with one that is not there any more", async () => {
    await put("a.json", groups(1));
    const found = new Found({ files: [join(folder, "*.json")] });
    await found.discovery.start();
    await found.toBe(1);
    await put("a.json", groups(1, 5));
    await found.toBe(1, 5);
    await put("b.json", groups(6));
    await found.toBe(1, 5, 6);
    await rm(join(folder, "a.json"));
    await found.toBe(6);
    await put("b.json", "");
    await sleep(100);
    await found.toBe(6); // an empty file is no JSON
    await put("b.json", "[]");
    await found.toBe();
  });

  it.each<[string, string, string]>([
    ["is no JSON", "[{", "malformed"],
    ["has a fault anywhere", '[{"targets":["10.0.0.1:7"]},{"targets":["x y"]}]', "malformed"],
    ["is too long", " ".repeat(16 * 2 ** 20 + 1), "too_large"],
  ])("stay as they were when the file %s, which is counted and told of once", async (_, text, result) => {
    const file = join(folder, "a.json");
    await put("a.json", groups(1));
    const found = new Found({ files: [file] });
    await found.discovery.start();
    await put("a.json", text);
    await expect.poll(() => found.told.length, { timeout: 5000 }).toBe(1);
    await sleep(100);
    expect(found.told).toMatchObject([{ from: file, message: "targets could not be read; the former ones stay" }]);
    expect(await found.results()).toEqual({ "file_sd ok": 1, [`file_sd ${result}`]: 1 });
    await found.toBe(1);
    await put("a.json", groups(2));
    await found.toBe(2);
  });

  it("stay as they were while a file without * is missing, or a folder", async () => {
    await mkdir(join(folder, "sub"));
    await put("a.json", groups(1));
    await put("sub/b.json", groups(2));
    const found = new Found({ files: [join(folder, "a.json"), join(folder, "sub/*.json")] });
    await found.discovery.start();
    await rm(join(folder, "a.json"));
    await rm(join(folder, "sub"), { recursive: true });
    await expect
      .poll(async () => (await found.results())["file_sd unreadable"] ?? 0, { timeout: 5000 })
      .toBeGreaterThan(3);
    await found.toBe(1, 2);
  });
});

describe("targets from HTTP servers", () => {
  async function listen(listener: RequestListener): Promise<string> {
    const server = createServer(listener);
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    closers.push(() => {
      server.closeAllConnections();
      return new Promise((resolve) => server.close(resolve));
    });
    return `http://127.0.0.1:${(server.address() as AddressInfo).port}/envoys?token=secret`;
  }

  const JSON_TYPE = { "content-type": "application/json; charset=utf-8" };

  it("change with the answer, and stay as they were when there is none to be relied on", async () => {
    let answer: RequestListener = (_request, response) => response.writeHead(200, JSON_TYPE).end(groups(1));
    const url = await listen((request, response) => {
      expect(request.url).toBe("/envoys?token=secret");
      expect(request.headers).toMatchObject({
        accept: "application/json",
        "x-prometheus-refresh-interval-seconds": "1",
      });
      answer(request, response);
    });
    const found = new Found({ urls: [url] });
    await found.discovery.start();
    await found.toBe(1);
    const broken: readonly RequestListener[] = [
      (_request, response) => response.writeHead(500, JSON_TYPE).end(groups(9)),
      (_request, response) => response.writeHead(200, { "content-type": "text/html" }).end(groups(9)),
      (_request, response) => response.writeHead(200, JSON_TYPE).end("[{"),
      (_request, response) => response.writeHead(200, JSON_TYPE).end('[{"targets":[1]}]'),
      (_request, response) => response.writeHead(200, JSON_TYPE).write("[", () => response.destroy()),
    ];
    for (answer of broken) {
      const before = found.told.length;
      await sleep(80);
      expect(found.told.length).toBeGreaterThanOrEqual(before);
      await found.toBe(1);
    }
    answer = (_request, response) => response.writeHead(200, JSON_TYPE).end(groups(2, 3));
    await found.toBe(2, 3);
    const {
      "http_sd ok": ok,
      "http_sd malformed": malformed,
      "http_sd unreadable": unreadable,
    } = await found.results();
    expect([ok, malformed, unreadable].map((count) => (count ?? 0) > 1)).toEqual([true, true, true]);
    expect(JSON.stringify(found.told)).not.toContain("secret");
    expect(found.told[0]?.from).toBe(url.split("?")[0]);
  });

  it("that do not answer keep nobody waiting when it is stopped", async () => {
    const found = new Found({ urls: [await listen(() => {})] });
    const started = found.discovery.start();
    await sleep(50);
    await found.discovery.stop();
    await started;
    expect(found.told).toEqual([]);
  });
});

describe("a discovery is complete", () => {
  it("once each file, folder and server has named its targets, and the pods are known", async () => {
    let isUp = false;
    const server = createServer((_request, response) => {
      response.statusCode = isUp ? 200 : 503;
      response.setHeader("content-type", "application/json");
      response.end(groups(3));
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    closers.push(() => new Promise((resolve) => server.close(resolve)));
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
    const files = [join(folder, "one.json"), join(folder, "more", "*.json")];
    const { discovery } = new Found({ targets: ["http://10.0.0.1:1"], files, urls: [url] });
    await discovery.start();
    expect(discovery.isComplete).toBe(false);
    isUp = true;
    discovery.useObjects(noObjects());
    await put("one.json", groups(2));
    await sleep(100);
    expect(discovery.isComplete).toBe(false); // there is no folder yet
    await mkdir(join(folder, "more"));
    await expect.poll(() => discovery.isComplete, { timeout: 5000 }).toBe(true);
    await rm(join(folder, "one.json"));
    await sleep(100);
    expect(discovery.isComplete).toBe(true);
  });
});

describe("targets among pods", () => {
  const pod = (
    name: string,
    { annotations = {}, containers = ["app"], init = [] as string[], phase = "Running", podIP = "10.0.0.1" },
  ) => ({
    apiVersion: "v1",
    kind: "Pod",
    metadata: { name, namespace: "default", annotations },
    spec: {
      containers: containers.map((each) => ({ name: each })),
      initContainers: init.map((each) => ({ name: each })),
    },
    status: { phase, podIP },
  });
  const objectsOf = (...pods: object[]) => {
    const objects = noObjects();
    for (const each of pods) addObject(objects, each);
    return objects;
  };
  const ISTIO = ["app", "istio-proxy"];
  const TOLD = { "meshtally.io/scrape": "true" };

  it.each<[string, object, string | null]>([
    ["with Istio's proxy", { containers: ISTIO }, "http://10.0.0.1:15090/stats/prometheus"],
    [
      "with Istio's proxy as a native sidecar",
      { init: ["istio-init", "istio-proxy"] },
      "http://10.0.0.1:15090/stats/prometheus",
    ],
    ["with an IPv6 address", { containers: ISTIO, podIP: "fd00::1" }, "http://[fd00::1]:15090/stats/prometheus"],
    [
      "whose annotations say that and where there is a proxy",
      {
        annotations: {
          ...TOLD,
          "prometheus.io/port": "9901",
          "prometheus.io/path": "/a",
          "prometheus.io/scheme": "https",
        },
      },
      "https://10.0.0.1:9901/a",
    ],
    ["whose annotations say only that there is one", { annotations: TOLD }, "http://10.0.0.1/stats/prometheus"],
    [
      "with Istio's proxy, whose annotations are of its merged metrics",
      { containers: ISTIO, annotations: { "prometheus.io/scrape": "true", "prometheus.io/port": "15020" } },
      "http://10.0.0.1:15090/stats/prometheus",
    ],
    ["without a proxy", {}, null],
    ["without a proxy, that Prometheus reads", { annotations: { "prometheus.io/scrape": "true" } }, null],
    ["that is not to be read", { containers: ISTIO, annotations: { "meshtally.io/scrape": "false" } }, null],
    ["that does not run yet", { containers: ISTIO, phase: "Pending" }, null],
    ["without an address", { containers: ISTIO, podIP: "" }, null],
  ])("are one, or none, of a pod %s", async (_, spec, url) => {
    const found = new Found({});
    await found.discovery.start();
    found.discovery.useObjects(objectsOf(pod("a", spec)));
    expect(urls(found.specs)).toEqual(url === null ? [] : [url]);
    expect(found.told).toEqual([]);
  });

  it("come and go with the pods, and one that cannot be read keeps no other away", async () => {
    const found = new Found({ targets: ["http://127.0.0.1:9"] });
    await found.discovery.start();
    const annotations = { ...TOLD, "prometheus.io/port": "x", "meshtally.io/filter": "false" };
    const plain = { containers: ISTIO, annotations: { "meshtally.io/filter": "false" } };
    found.discovery.useObjects(objectsOf(pod("bad", { annotations }), pod("good", plain)));
    expect(found.specs.map(({ hasFilter }) => hasFilter)).toEqual([true, false]);
    expect(found.told).toMatchObject([{ from: "Pod default/bad" }]);
    expect(await found.results()).toEqual({ "kubernetes malformed": 1, "kubernetes ok": 1 });
    found.discovery.useObjects(objectsOf());
    expect(urls(found.specs)).toEqual(["http://127.0.0.1:9/stats/prometheus"]);
  });
});

it("more targets than there may be are left out, and that is seen", async () => {
  await put("a.json", groups(1, 2, 3));
  const found = new Found({ targets: ["http://127.0.0.1:9"], files: [join(folder, "a.json")], maxTargets: 2 });
  await found.discovery.start();
  expect(urls(found.specs).map((url) => new URL(url).port)).toEqual(["9", "1"]);
  expect((await found.self.scrapeTargetsRefused.get()).values).toMatchObject([{ value: 2 }]);
  expect(found.told).toMatchObject([{ message: expect.stringContaining("scrape.max_targets") }]);
});
