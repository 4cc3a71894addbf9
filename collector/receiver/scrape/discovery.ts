// All targets that there are: those of the configuration, and those that Kubernetes objects, files and HTTP servers name, as these change.

import type { FreshClientTls } from "../../client/client-tls.ts";
import type { Access } from "../../client/secret.ts";
import { CollectorError } from "../../error.ts";
import type { Objects } from "../../identity/objects.ts";
import type { Log } from "../../log.ts";
import type { ReloadResult, SelfMetrics } from "../../self.ts";
import { LogLimit } from "../log-limit.ts";
import { FileSd } from "./file-sd.ts";
import { ScrapeFault } from "./http-get.ts";
import { HttpSd } from "./http-sd.ts";
import { podTargets } from "./kubernetes-sd.ts";
import { adminSpec, type TargetSpec } from "./target-spec.ts";

export interface DiscoveryOptions {
  /** Base URLs of admin interfaces. */
  readonly targets: readonly string[];
  readonly fileSd: { readonly files: readonly string[]; readonly intervalMs: number };
  readonly httpSd: { readonly urls: readonly string[]; readonly access: Access; readonly intervalMs: number };
  /** Of servers behind https; null: Node's authorities, no certificate of ours. */
  readonly tls: FreshClientTls | null;
  /** Whether the pods that `useObjects` names are read. */
  readonly kubernetes: boolean;
  /** More are left out: first of the HTTP servers', then of the files', the pods and the configuration's. */
  readonly maxTargets: number;
  /** Told of all targets, whenever they change; several may have one URL. */
  readonly use: (specs: readonly TargetSpec[]) => void;
  readonly self: SelfMetrics;
  readonly log: Log;
}

/** Where targets come from; the label `source`. */
export type DiscoverySource = "static" | "kubernetes" | "file_sd" | "http_sd";

/** How looking for targets went. */
export class DiscoveryReport {
  private readonly faults: LogLimit;

  constructor(
    private readonly self: SelfMetrics,
    log: Log,
  ) {
    this.faults = new LogLimit(log);
  }

  count(source: DiscoverySource, result: ReloadResult): void {
    this.self.scrapeDiscovery.inc({ source, result });
  }

  /** `from`: the file, URL or pod. */
  fail(source: DiscoverySource, from: string, error: unknown): void {
    const result = resultOf(error);
    this.count(source, result);
    const reason = error instanceof Error ? error.message : String(error);
    this.faults.error(`${source} ${result}`, { from, reason }, "targets could not be read; the former ones stay");
  }
}

function resultOf(error: unknown): ReloadResult {
  if (error instanceof CollectorError) return error.code === "limit_exceeded" ? "too_large" : "malformed";
  if (error instanceof ScrapeFault && error.result === "too_large") return "too_large";
  return error instanceof ScrapeFault && error.result === "malformed" ? "malformed" : "unreadable";
}

export class Discovery {
  private readonly fixed: readonly TargetSpec[];
  private pods: readonly TargetSpec[] = [];
  private readonly report: DiscoveryReport;
  private readonly fileSd: FileSd;
  private readonly httpSd: HttpSd;
  private readonly faults: LogLimit;
  private hasPods: boolean;

  constructor(private readonly options: DiscoveryOptions) {
    const { targets, fileSd, httpSd, tls, self, log } = options;
    this.faults = new LogLimit(log);
    this.fixed = targets.map(adminSpec);
    this.hasPods = !options.kubernetes;
    this.report = new DiscoveryReport(self, log);
    const common = { onChange: () => this.useAll(), report: this.report };
    this.fileSd = new FileSd({ ...fileSd, ...common });
    this.httpSd = new HttpSd({ ...httpSd, tls, ...common });
  }

  /** Whether each source has named its targets at least once: a target that none of them named is one no more. */
  get isComplete(): boolean {
    return this.hasPods && this.fileSd.isComplete && this.httpSd.isComplete;
  }

  /** Resolves when all sources were asked once, with or without success. */
  async start(): Promise<void> {
    this.useAll();
    await Promise.all([this.fileSd.start(), this.httpSd.start()]);
  }

  /** These are the Kubernetes objects from now on. */
  useObjects(objects: Objects): void {
    if (!this.options.kubernetes) return;
    this.pods = podTargets(objects, this.report);
    this.hasPods = true;
    this.report.count("kubernetes", "ok");
    this.useAll();
  }

  async stop(): Promise<void> {
    await Promise.all([this.fileSd.stop(), this.httpSd.stop()]);
  }

  private useAll(): void {
    const { self, maxTargets, use } = this.options;
    const sources = {
      static: this.fixed,
      kubernetes: this.pods,
      file_sd: this.fileSd.specs,
      http_sd: this.httpSd.specs,
    };
    for (const [source, { length }] of Object.entries(sources)) self.scrapeTargets.set({ source }, length);
    const specs = Object.values(sources).flat();
    const refused = Math.max(0, specs.length - maxTargets);
    self.scrapeTargetsRefused.set(refused);
    if (refused > 0) {
      this.faults.error(
        "refused",
        { refused, max_targets: maxTargets },
        "more targets than scrape.max_targets; the last are not read",
      );
    }
    use(specs.slice(0, maxTargets));
  }
}
