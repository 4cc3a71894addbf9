// A collector as a process of its own (build/collector/main.js), with a log store, and an access logger that streams to it.

import { type ChildProcess, spawn } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import * as grpc from "@grpc/grpc-js";
import { encodeMessage, type Fields } from "../../fixtures/als.ts";

const MAIN = resolve(import.meta.dirname, "../../../build/collector/main.js");

export interface CollectorProcess {
  readonly child: ChildProcess;
  readonly grpc: string;
  readonly http: string;
  /** All it has said so far. */
  readonly output: () => string;
}

/** `folder`: for its configuration; `logs`: that section of it; `prefix`: a command that runs it. */
export async function startProcess(
  folder: string,
  logs: string,
  prefix: readonly string[] = [],
): Promise<CollectorProcess> {
  const path = join(folder, "collector.yaml");
  writeFileSync(path, `grpc: { address: 127.0.0.1:0 }\nhttp: { address: 127.0.0.1:0 }\n${logs}\n`);
  const [command = "", ...args] = [...prefix, process.execPath, MAIN, "--config", path];
  const child = spawn(command, args, { stdio: ["ignore", "pipe", "pipe"], env: { ...process.env, LOG_LEVEL: "" } });
  let output = "";
  const listening = new Promise<{ grpc: string; http: string }>((done, fail) => {
    const read = (chunk: Buffer) => {
      output += chunk;
      const line = output.split("\n").find((each) => each.includes('"msg":"listening"'));
      if (line !== undefined) done(JSON.parse(line));
    };
    child.stdout.on("data", read);
    child.stderr.on("data", read);
    child.on("exit", (code, signal) => fail(new Error(`it ended with ${code ?? signal}: ${output}`)));
  });
  return { child, ...(await listening), output: () => output };
}

export async function kill({ child }: CollectorProcess): Promise<void> {
  const ended = new Promise((done) => child.once("exit", done));
  child.kill("SIGKILL");
  await ended;
}

/** An access logger's stream. */
export class Logger {
  private readonly client: grpc.Client;
  private readonly call: grpc.ClientWritableStream<Buffer>;

  constructor(address: string) {
    const same = (bytes: Buffer) => bytes;
    this.client = new grpc.Client(address, grpc.credentials.createInsecure());
    const path = "/envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs";
    this.call = this.client.makeClientStreamRequest(path, same, same, () => {});
    this.call.on("error", () => {}); // the collector was killed: that is the test
  }

  send(entries: readonly Fields[], id = "sidecar~10.0.0.1~web-1.default~default.svc.cluster.local"): void {
    this.call.write(
      encodeMessage({ identifier: { node: { id }, logName: "outbound" }, httpLogs: { logEntry: entries } }),
    );
  }

  close(): void {
    this.call.cancel();
    this.client.close();
  }
}

/** A call that failed. */
export function failed(requestId: string, common: Fields = {}): Fields {
  return {
    commonProperties: {
      startTime: { seconds: 1_767_225_600 },
      upstreamCluster: "outbound|9080||reviews.default.svc.cluster.local",
      responseFlags: { upstreamConnectionFailure: true },
      ...common,
    },
    request: { requestMethod: 1, path: "/reviews/7?token=s3cret", authority: "reviews", requestId },
    response: { responseCode: { value: 503 } },
  };
}
