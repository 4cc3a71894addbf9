// The built collector as a process, with threads, and what a test does to it.

import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import * as grpc from "@grpc/grpc-js";

const MAIN = resolve(import.meta.dirname, "../../../build/collector/main.js");
const METHOD = "/envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs";

export class CollectorProcess {
  readonly ended: Promise<{ readonly code: number | null; readonly stdout: string; readonly stderr: string }>;
  private stdout = "";
  private stderr = "";
  private client: grpc.Client | null = null;
  private http = "";

  private constructor(
    private readonly child: ChildProcess,
    private readonly folder: string,
  ) {
    child.stdout?.on("data", (chunk) => {
      this.stdout += chunk;
    });
    child.stderr?.on("data", (chunk) => {
      this.stderr += chunk;
    });
    this.ended = new Promise((done) => {
      child.on("close", (code) => done({ code, stdout: this.stdout, stderr: this.stderr }));
    });
  }

  /** `preload` is run in each thread before anything else, where `flag` is the path of a file that does not exist. */
  static async start(threads: number, config = "", preload = ""): Promise<CollectorProcess> {
    const folder = mkdtempSync(join(tmpdir(), "meshtally-threads-"));
    const path = join(folder, "collector.yaml");
    const ports = "grpc: { address: 127.0.0.1:0 }\nhttp: { address: 127.0.0.1:0 }\n";
    writeFileSync(path, `${ports}threads: ${threads}\n${config}`);
    writeFileSync(join(folder, "preload.cjs"), `const flag = ${JSON.stringify(join(folder, "flag"))};\n${preload}`);
    const env = { ...process.env, LOG_LEVEL: "", NODE_OPTIONS: `--require ${join(folder, "preload.cjs")}` };
    const child = spawn(process.execPath, [MAIN, "--config", path], { env });
    const collector = new CollectorProcess(child, folder);
    await collector.listening();
    return collector;
  }

  get pid(): number {
    return this.child.pid as number;
  }

  raiseFlag(): void {
    writeFileSync(join(this.folder, "flag"), "");
  }

  lowerFlag(): void {
    rmSync(join(this.folder, "flag"));
  }

  /** A stream; `end` resolves when it was answered. */
  open() {
    const same = (bytes: Buffer) => bytes;
    let settle: (error: Error | null) => void = () => {};
    const answered = new Promise<void>((done, fail) => {
      settle = (error) => (error ? fail(error) : done());
    });
    answered.catch(() => {}); // told to who ends it
    const call = (this.client as grpc.Client).makeClientStreamRequest(METHOD, same, same, settle);
    return {
      send: (message: Buffer, flushed?: () => void) => call.write(message, flushed),
      end: () => {
        call.end();
        return answered;
      },
    };
  }

  get(path: string, headers: Record<string, string> = {}): Promise<Response> {
    return fetch(`http://${this.http}${path}`, { headers });
  }

  kill(signal: NodeJS.Signals): void {
    this.child.kill(signal);
  }

  async stop(): Promise<void> {
    this.client?.close();
    this.child.kill("SIGKILL");
    await this.ended;
    rmSync(this.folder, { recursive: true });
  }

  private async listening(): Promise<void> {
    const line = await new Promise<string>((done, fail) => {
      const check = () => {
        const found = this.stdout.split("\n").find((each) => each.includes('"msg":"listening"'));
        if (found) done(found);
      };
      this.child.stdout?.on("data", check);
      this.ended.then(({ stdout, stderr }) => fail(new Error(`the collector ended: ${stdout}${stderr}`)));
    });
    const { grpc: address, http } = JSON.parse(line) as { grpc: string; http: string };
    this.client = new grpc.Client(address, grpc.credentials.createInsecure());
    this.http = http;
  }
}
