import { mkdtempSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { KubernetesObjects } from "../../../collector/identity/kubernetes.ts";
import type { Log } from "../../../collector/log.ts";
import { SelfMetrics } from "../../../collector/self.ts";
import { pod, RULES, who } from "./cluster.ts";

let folder = "";
let self: SelfMetrics;
let faults: object[];
const closers: (() => Promise<void>)[] = [];

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "meshtally-identity-"));
  self = new SelfMetrics("test");
  faults = [];
});

afterEach(async () => {
  for (const close of closers.splice(0)) await close();
  rmSync(folder, { recursive: true });
});

interface Options {
  readonly paths?: readonly string[];
  readonly intervalMs?: number;
  readonly maxBytes?: number;
}

async function start({ paths = [folder], intervalMs = 3_600_000, maxBytes = 2 ** 20 }: Options = {}) {
  const log: Log = { info: () => {}, warn: () => {}, error: (fields) => faults.push(fields) };
  const objects = new KubernetesObjects({ paths, intervalMs, maxBytes, rules: RULES, self, log });
  closers.push(() => objects.stop());
  await objects.start();
  return objects;
}

/** As tools replace files: another one takes the name. */
function replace(name: string, text: string): string {
  const path = join(folder, name);
  writeFileSync(`${path}.new`, text);
  renameSync(`${path}.new`, path);
  return path;
}

const podFile = (name: string) => JSON.stringify(pod(name, ["10.0.0.1"]));

async function reloads(): Promise<Record<string, number>> {
  const { values } = await self.identityReloads.get();
  return Object.fromEntries(values.filter(({ value }) => value > 0).map(({ labels, value }) => [labels.result, value]));
}

test("files of a folder are read; hidden ones and those with other endings are not", async () => {
  replace("a.json", podFile("a"));
  replace(".b.json", "broken");
  replace("c.txt", "broken");
  expect(who((await start()).find("10.0.0.1", 80))).toBe("pod a");
  expect(await reloads()).toEqual({ ok: 1 });
});

test("a reading that fails says whether former objects stay in force", async () => {
  const messages: string[] = [];
  const log: Log = { info: () => {}, warn: () => {}, error: (_fields, message) => messages.push(message) };
  const path = replace("a.json", "broken");
  const objects = new KubernetesObjects({
    paths: [path],
    intervalMs: 3_600_000,
    maxBytes: 1000,
    rules: RULES,
    self,
    log,
  });
  closers.push(() => objects.stop());
  await objects.start();
  replace("a.json", podFile("a"));
  await objects.refresh();
  replace("a.json", "broken again");
  await objects.refresh();
  expect(messages).toEqual([
    "Kubernetes objects could not be read; none are in force",
    "Kubernetes objects could not be read; the former ones stay in force",
  ]);
});

test("objects in force are counted by kind, skipped ones too", async () => {
  replace("a.json", podFile("a"));
  replace("b.yaml", "kind: Secret\napiVersion: v1\n---\nkind: Node\napiVersion: v1\nmetadata: {name: n}\n");
  await start();
  const { values } = await self.identityObjects.get();
  expect(values.map(({ labels, value }) => [labels.kind, value])).toEqual([
    ["Pod", 1],
    ["Service", 0],
    ["EndpointSlice", 0],
    ["Endpoints", 0],
    ["Node", 1],
    ["ServiceEntry", 0],
    ["WorkloadEntry", 0],
    ["skipped", 1],
  ]);
});

test("a file that is replaced is read anew, by the system's notice alone", async () => {
  const path = replace("a.json", podFile("a"));
  const objects = await start({ paths: [path] });
  replace("a.json", podFile("b"));
  await vi.waitFor(() => expect(who(objects.find("10.0.0.1", 80))).toBe("pod b"), 10_000);
});

test("each reading that came through is another version", async () => {
  replace("a.json", podFile("a"));
  const objects = await start();
  const { version } = objects;
  replace("a.json", podFile("b"));
  await objects.refresh();
  expect(objects.version).toBe(version + 1);
  expect(who(objects.findPod("default", "b"))).toBe("pod b");
  replace("a.json", "{");
  await objects.refresh();
  await objects.refresh();
  expect(objects.version).toBe(version + 1);
});

test("a folder that appears later is found by the poll", async () => {
  const objects = await start({ paths: [join(folder, "later/objects.json")], intervalMs: 20 });
  expect(await reloads()).toEqual({ unreadable: 1 });
  const later = mkdtempSync(join(folder, "made-"));
  writeFileSync(join(later, "objects.json"), podFile("a"));
  renameSync(later, join(folder, "later"));
  await vi.waitFor(() => expect(who(objects.find("10.0.0.1", 80))).toBe("pod a"), 10_000);
});

test.each([
  ["malformed", "{", /JSON/],
  ["too_large", `${podFile("b")}${" ".repeat(2000)}`, /identity\.kubernetes\.max_size, 2000 bytes/],
])(
  "a file that is %s leaves the former objects in force, all of them, and is told with file and reason",
  async (result, text, reason) => {
    const path = replace("a.json", podFile("a"));
    const objects = await start({ maxBytes: 2000 });
    replace("0.json", JSON.stringify(pod("other", ["10.0.0.2"])));
    replace("a.json", text);
    await objects.refresh();
    expect(who(objects.find("10.0.0.1", 80))).toBe("pod a");
    expect(objects.find("10.0.0.2", 80)).toBeNull();
    expect(await reloads()).toEqual({ ok: 1, [result]: 1 });
    expect(faults).toEqual([{ file: path, reason: expect.stringMatching(reason) }]);
  },
);

test("a fault is told once, and what is mended is in force", async () => {
  replace("a.json", "{");
  const objects = await start();
  await objects.refresh();
  await objects.refresh();
  expect(await reloads()).toEqual({ malformed: 1 });
  replace("a.json", podFile("a"));
  await objects.refresh();
  expect(await reloads()).toEqual({ malformed: 1, ok: 1 });
  expect(who(objects.find("10.0.0.1", 80))).toBe("pod a");
});

test("files that did not change are not read again", async () => {
  replace("a.json", podFile("a"));
  const objects = await start();
  await objects.refresh();
  expect(await reloads()).toEqual({ ok: 1 });
});

test("without files there is nobody, and nothing is counted", async () => {
  const objects = await start({ paths: [] });
  expect(objects.find("10.0.0.1", 80)).toBeNull();
  expect(await reloads()).toEqual({});
});
