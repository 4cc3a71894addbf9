// Reads what node --cpu-prof leaves: where the samples fell, by function. https://chromedevtools.github.io/devtools-protocol/tot/Profiler/#type-Profile

import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

interface CallFrame {
  readonly functionName: string;
  readonly url: string;
  readonly lineNumber: number;
}

export interface CpuProfile {
  readonly nodes: readonly { readonly id: number; readonly callFrame: CallFrame }[];
  readonly samples: readonly number[];
  readonly timeDeltas: readonly number[];
}

export interface SelfTime {
  readonly name: string;
  readonly file: string;
  readonly milliseconds: number;
  /** Of all samples in which the thread was not idle. */
  readonly share: number;
}

const IDLE = "(idle)";
const US_PER_MS = 1000;

/** The functions in which most time was spent, callees left out; of one name in one file together. */
export function topSelfTimes(profiles: readonly CpuProfile[], count: number): SelfTime[] {
  const times = new Map<string, { name: string; file: string; milliseconds: number }>();
  for (const { nodes, samples, timeDeltas } of profiles) {
    const frames = new Map(nodes.map(({ id, callFrame }) => [id, callFrame]));
    samples.forEach((id, i) => {
      const frame = frames.get(id);
      if (frame === undefined || frame.functionName === IDLE) return;
      const [name, file] = [frame.functionName || "(anonymous)", shortFile(frame.url)];
      const key = `${name} ${file}`;
      const sum = times.get(key) ?? { name, file, milliseconds: 0 };
      sum.milliseconds += (timeDeltas[i] ?? 0) / US_PER_MS;
      times.set(key, sum);
    });
  }
  const all = [...times.values()];
  const total = all.reduce((sum, { milliseconds }) => sum + milliseconds, 0);
  return all
    .sort((a, b) => b.milliseconds - a.milliseconds)
    .slice(0, count)
    .map((time) => ({ ...time, share: time.milliseconds / total }));
}

/** Files of one process, one for each thread. */
export function profilesIn(folder: string): string[] {
  return readdirSync(folder).map((name) => join(folder, name));
}

export function readProfile(file: string): CpuProfile {
  return JSON.parse(readFileSync(file, "utf8"));
}

/** From the project's or the package's folder on; "" of what is V8's own. */
function shortFile(url: string): string {
  return url.replace(/^.*\/(?:node_modules|build)\//, "");
}
