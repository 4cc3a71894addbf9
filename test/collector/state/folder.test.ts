// The file of a saved state: what is whole is read, what is not is set aside, and the folder is one process's.

import { spawn } from "node:child_process";
import { once } from "node:events";
import {
  closeSync,
  copyFileSync,
  existsSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { crc32 } from "node:zlib";
import { afterEach, describe, expect, it } from "vitest";
import { HistogramBounds } from "../../../collector/series/histogram.ts";
import { DEFAULT_SHAPES, shapesOf } from "../../../collector/series/shape.ts";
import { SeriesStore } from "../../../collector/series/store.ts";
import { type Frame, StateFolder } from "../../../collector/state/folder.ts";
import {
  encodeEnd,
  encodeFrame,
  encodeHeader,
  FrameKind,
  meaningOf,
  readerOf,
} from "../../../collector/state/frames.ts";
import { ResetsBook } from "../../../collector/state/resets-book.ts";
import { SavedStore } from "../../../collector/state/saved-store.ts";
import { readFrames, readStores, type StateFile } from "../../../collector/state/state-file.ts";
import { key } from "../labels.ts";

const MEANING = meaningOf("", DEFAULT_SHAPES);

const closers: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

function newFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), "meshtally-state-"));
  closers.push(() => rmSync(folder, { recursive: true }));
  return folder;
}

async function open(folder: string): Promise<StateFolder> {
  const files = await StateFolder.open(folder);
  closers.push(() => files.close());
  return files;
}

/** One request of one proxy. */
function framesOfOne(shapes = DEFAULT_SHAPES): Frame[] {
  const limits = { proxies: 9, labelSets: 9, cells: 99, connections: 9, retireAfterMs: 1000 };
  const store = new SeriesStore(limits, undefined, { shapes });
  store.observe({
    proxy: "p",
    lifeMs: 1000,
    labelKey: key(),
    requests: 1,
    durationMs: 5,
    requestBytes: 6,
    responseBytes: 7,
  });
  const saved = new SavedStore(store);
  saved.begin(0);
  const payload = saved.nextPiece();
  if (payload === null || saved.nextPiece() !== null) throw new Error("it is one piece");
  return [{ kind: FrameKind.Store, payload }];
}

async function* each(frames: readonly Frame[]): AsyncGenerator<Frame> {
  yield* frames;
}

const NEVER = (fault: string) => {
  throw new Error(`set aside as ${fault}`);
};

describe("a saved state", () => {
  it("is read as it was written, by the process that comes next", async () => {
    const folder = newFolder();
    const first = await StateFolder.open(folder);
    expect(first.read(NEVER)).toBeNull();
    const frames = framesOfOne();
    const bytes = await first.write(1234, each(frames));
    await first.close();
    const read = (await open(folder)).read(NEVER);
    expect(read?.savedMs).toBe(1234);
    if (read === null) throw new Error("there is none");
    expect([...readFrames(read)]).toEqual(frames);
    expect(readFileSync(join(folder, "counts.state")).length).toBe(bytes);
    expect(existsSync(join(folder, "lock"))).toBe(true);
  });

  it("that could not be written to its end leaves the last one", async () => {
    const files = await open(newFolder());
    await files.write(1, each(framesOfOne()));
    async function* failing(): AsyncGenerator<Frame> {
      yield* framesOfOne();
      throw new Error("no space");
    }
    await expect(files.write(2, failing())).rejects.toThrow("no space");
    expect(files.read(NEVER)?.savedMs).toBe(1);
  });

  it("is written anew where its folder is gone", async () => {
    const folder = join(newFolder(), "state");
    const files = await open(folder);
    rmSync(folder, { recursive: true });
    await files.write(3, each(framesOfOne()));
    expect(files.read(NEVER)?.savedMs).toBe(3);
  });
});

describe("a file longer than 2 GiB", () => {
  it("is read frame by frame", { timeout: 60_000 }, () => {
    const path = join(newFolder(), "counts.state");
    const FRAMES = 140;
    const payload = Buffer.alloc(16 * 2 ** 20);
    const header = encodeFrame(FrameKind.Store, payload);
    const file = openSync(path, "w");
    let at = writeSync(file, encodeHeader(1, MEANING));
    for (let frame = 0; frame < FRAMES; frame++) {
      writeSync(file, header, 0, header.length, at);
      at += header.length + payload.length; // zeros, for which the disk needs no room
    }
    writeSync(file, encodeEnd(FRAMES), 0, undefined, at);
    closeSync(file);
    expect(at).toBeGreaterThan(2 ** 31);
    let frames = 0;
    let most = 0;
    for (const each of readFrames({ path, meaning: MEANING })) {
      if (each.payload.length === payload.length) frames++;
      most = Math.max(most, process.memoryUsage().arrayBuffers);
    }
    expect(frames).toBe(FRAMES);
    expect(most).toBeLessThan(2 ** 30);
  });
});

describe("a state of version 1", () => {
  it("is taken in whole", async () => {
    const folder = newFolder();
    copyFileSync(resolve(import.meta.dirname, "../../fixtures/state/version-1.state"), join(folder, "counts.state"));
    const state = (await open(folder)).read(NEVER);
    if (state === null) throw new Error("there is none");
    expect(state.savedMs).toBe(1234);
    const store = new SeriesStore({ proxies: 9, labelSets: 9, cells: 99, connections: 9, retireAfterMs: 1000 });
    new SavedStore(store).restore(readStores(state), { shard: 0, shards: 1, owns: () => true });
    const row = new Float64Array(store.http.width);
    const requests = store.http.series.map((series) => {
      store.http.readTotal(series, row);
      return row[0];
    });
    expect(requests.sort()).toEqual([11, 4]); // 8 before the fall and 3 since; 3 and 1
    expect(store.connectionCount).toBe(1);
    const resets = new ResetsBook();
    for (const { payload } of readFrames(state, FrameKind.Resets)) resets.restore(readerOf(payload));
    expect([...resets.of("http://p/stats").held()].map(({ base }) => base?.chunk[base.at])).toEqual([8]);
  });
});

describe("a file that is no whole state", () => {
  /** What was told of it. */
  async function faultOf(bytes: Buffer): Promise<string> {
    const folder = newFolder();
    writeFileSync(join(folder, "counts.state"), bytes);
    const files = await open(folder);
    let told = "";
    expect(
      files.read((fault, file) => {
        told = fault;
        expect(readFileSync(file)).toEqual(bytes);
      }),
    ).toBeNull();
    expect(readdirSync(folder).sort()).toEqual([`counts.state.${told}`, "lock"]);
    return told;
  }

  async function whole(): Promise<Buffer> {
    const folder = newFolder();
    await (await open(folder)).write(1, each(framesOfOne()));
    return readFileSync(join(folder, "counts.state"));
  }

  /** With the header's checksum as it has to be. */
  function withHeader(bytes: Buffer, change: (header: Buffer) => void): Buffer {
    const changed = Buffer.from(bytes);
    change(changed);
    changed.writeUInt32LE(crc32(changed.subarray(0, 24)), 24);
    return changed;
  }

  it("is set aside under the reason", async () => {
    const state = await whole();
    const rubbish = Buffer.from([1, 250]);
    const withRubbish = Buffer.concat([state.subarray(0, 28)]);
    expect(await faultOf(Buffer.alloc(0))).toBe("foreign");
    expect(await faultOf(Buffer.from("# Notes\n"))).toBe("foreign");
    expect(await faultOf(withHeader(state, (header) => header.writeUInt32LE(3, 8)))).toBe("newer");
    expect(await faultOf(withHeader(state, (header) => header.writeUInt32LE(0, 8)))).toBe("foreign");
    expect(await faultOf(withHeader(state, (header) => header.writeUInt32LE(7, 12)))).toBe("other_vocabulary");
    expect(await faultOf(Buffer.concat([state, rubbish]))).toBe("corrupt");
    expect(await faultOf(withRubbish)).toBe("cut_short");
  });

  it("is set aside where histograms are counted by other bounds, and read where they are the same", async () => {
    const shapes = (bounds: readonly number[]) => shapesOf(new HistogramBounds(bounds));
    const bounds = [5, 7.5, 33];
    const folder = newFolder();
    const reopened = async (as: ReturnType<typeof shapes>) => {
      const files = await StateFolder.open(folder, "", as);
      closers.push(() => files.close());
      return files;
    };
    const first = await reopened(shapes(bounds));
    await first.write(1, each(framesOfOne(shapes(bounds))));
    await first.close();
    const same = await reopened(shapes(bounds));
    expect([...readStores(same.read(NEVER) as StateFile)]).toHaveLength(1);
    await same.close();
    const faults: string[] = [];
    const other = await reopened(shapes([5, 7.5, 34])); // rows are as long
    expect(other.read((fault) => faults.push(fault))).toBeNull();
    expect(faults).toEqual(["other_vocabulary"]);
  });

  it("is set aside wherever it was cut, and whichever byte is wrong", async () => {
    const state = await whole();
    for (let length = 1; length < state.length; length += 7) {
      expect(await faultOf(state.subarray(0, length))).toBe("cut_short");
    }
    for (let at = 0; at < state.length; at += 5) {
      const wrong = Buffer.from(state);
      wrong[at] = (wrong[at] as number) ^ 0x10;
      expect(["foreign", "newer", "cut_short", "corrupt"]).toContain(await faultOf(wrong));
    }
  });

  it("is set aside where its records are none, though its checksums are right", async () => {
    const folder = newFolder();
    await (await open(folder)).write(1, each([{ kind: FrameKind.Store, payload: Buffer.from([0, 99, 1, 2]) }]));
    expect(await faultOf(readFileSync(join(folder, "counts.state")))).toBe("corrupt");
  });
});

describe("the folder", () => {
  it("is one process's at a time", async () => {
    const folder = newFolder();
    const first = await StateFolder.open(folder);
    await expect(StateFolder.open(folder)).rejects.toThrow(/another process's/);
    await first.close();
    await open(folder);
  });

  it("is free when the process that had it was killed", async () => {
    const folder = newFolder();
    const script = `require("net").createServer().listen(${JSON.stringify(join(folder, "lock"))}, () => console.log("up"))`;
    const holder = spawn(process.execPath, ["-e", script]);
    closers.push(() => holder.kill("SIGKILL"));
    await once(holder.stdout, "data");
    await expect(StateFolder.open(folder)).rejects.toThrow(/another process's/);
    holder.kill("SIGKILL");
    await once(holder, "exit");
    expect(existsSync(join(folder, "lock"))).toBe(true);
    await open(folder);
  });

  it("that is a file is refused in words", async () => {
    const file = join(newFolder(), "file");
    writeFileSync(file, "");
    await expect(StateFolder.open(file)).rejects.toThrow(/^state\.folder: .* cannot be used: /);
  });

  it("whose path is too long for a socket is refused in words", async () => {
    const folder = join(newFolder(), "x".repeat(120));
    await expect(StateFolder.open(folder)).rejects.toThrow(/^state\.folder: the path .* is longer than 107 bytes/);
  });
});
