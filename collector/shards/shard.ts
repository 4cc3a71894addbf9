// Shard: everything that is kept of the proxies whose data comes here. Without threads there is one; with threads each has one, and all
// data of a proxy goes to the same, so that what is decided per process life (docs/adr/0003-series-store.md) is decided in one place.

import { Analyser, type ServiceRules } from "../analysis/analyse.ts";
import { ApdexThresholds } from "../analysis/apdex.ts";
import { Endpoints } from "../analysis/endpoints.ts";
import type { Identities } from "../analysis/parties.ts";
import { SuccessPolicies } from "../analysis/policy.ts";
import { Completeness } from "../completeness/completeness.ts";
import type { Config } from "../config/config.ts";
import type { AddressLookup, NameRules } from "../identity/lookup.ts";
import { nameRule } from "../identity/names.ts";
import { Indicators } from "../indicators/indicators.ts";
import type { Subject } from "../indicators/subjects.ts";
import type { Log } from "../log.ts";
import { LogIntake } from "../logs/intake.ts";
import type { LogStore } from "../logs/store.ts";
import { AlsReceiver, type MessageTap } from "../receiver/als.ts";
import { podOfNodeId } from "../resolver/subject.ts";
import type { SelfMetrics } from "../self.ts";
import { HistogramBounds } from "../series/histogram.ts";
import { KeptLabels } from "../series/kept-labels.ts";
import { PodLabels } from "../series/pod-labels.ts";
import { type Shapes, shapesOf } from "../series/shape.ts";
import { SeriesStore } from "../series/store.ts";
import { LABELS } from "../vocabulary.ts";
import type { ShardHoldings } from "./shards.ts";
import { ShardState, type ShardStateOptions } from "./state.ts";

const RETIRE_TICK_MS = 10_000;

/** What a shard needs of the configuration: all of it plain. */
export type ShardConfig = Pick<
  Config,
  "endpoints" | "health" | "identity" | "indicators" | "limits" | "logs" | "metrics" | "otlp"
>;

export interface ShardOptions {
  readonly config: ShardConfig;
  readonly lookup: AddressLookup;
  /** Somebody who reads each message along, with all it brings. */
  readonly tap?: MessageTap;
  /** Takes what is kept of the access logs; null when nothing is. */
  readonly logs: Pick<LogStore, "add"> | null;
  /** Told of the subjects that were let go, with what they had come to. */
  readonly onRetired?: (subjects: readonly Subject[]) => void;
  /** What was saved, and which part of it is this shard's; null when no state is saved. */
  readonly state: ShardStateOptions | null;
  readonly self: SelfMetrics;
  readonly log: Log;
}

export class Shard {
  readonly store: SeriesStore;
  readonly completeness: Completeness;
  readonly indicators: Indicators;
  readonly als: AlsReceiver;
  /** Null when no state is saved. */
  readonly state: ShardState | null;
  private timer: NodeJS.Timeout | undefined;

  constructor(private readonly options: ShardOptions) {
    const { config, lookup, tap, logs, self, log } = options;
    const { metrics } = config;
    const shapes = configuredShapes(config);
    this.store = new SeriesStore({ ...config.limits, expireAfterMs: metrics.expireAfterMs }, undefined, {
      kept: keptLabels(metrics, shapes),
      hasNatives: metrics.nativeHistograms,
      shapes,
      pods: metrics.podLabels ? new PodLabels(podOfNodeId, shapes) : null,
    });
    this.completeness = new Completeness(this.store, config.limits.edges);
    this.store.onReport = (proxy) => this.completeness.compare(proxy);
    this.state = options.state ? new ShardState(this.store, options.state) : null;
    this.indicators = new Indicators({
      ...config.indicators,
      limit: config.limits.indicators,
      endpointsPerService: config.endpoints.maxPerService,
    });
    const identities = identitiesOf(config, lookup);
    const rules = serviceRulesOf(config);
    const analyser = new Analyser(Date.now, identities, rules);
    this.als = new AlsReceiver({
      maxStreams: config.limits.streams,
      maxProxies: config.limits.proxies,
      sink: (record, way) => this.store.observe(record, way),
      connectionSink: (record, way) => this.store.observeConnection(record, way),
      ...(tap && { taps: [tap] }),
      indicators: this.indicators,
      identities,
      rules,
      expectsOtlp: config.otlp.grpc !== null || config.otlp.http !== null,
      entryLog: logs === null ? null : new LogIntake({ ...config.logs, store: logs, analyser, self }),
      self,
      log,
    });
  }

  get holdings(): ShardHoldings {
    const { store, indicators } = this;
    const { http, tcp } = store;
    return {
      labelSets: { http: http.series.length, tcp: tcp.series.length },
      lives: store.lifeCount,
      cells: { http: http.cellCount, tcp: tcp.cellCount },
      overflowed: { http: http.overflowed, tcp: tcp.overflowed },
      letGo: { http: http.letGoCount, tcp: tcp.letGoCount },
      connections: store.connectionCount,
      indicators: indicators.holdings,
    };
  }

  /** Lets go, now and then, of what is over. */
  start(): void {
    this.timer = setInterval(() => this.retire(), RETIRE_TICK_MS);
  }

  stop(): void {
    clearInterval(this.timer);
  }

  private retire(): void {
    this.store.retireSuperseded();
    this.completeness.letGoIdle();
    if (this.state === null) this.store.letGo(); // else that is a matter of when it is saved
    const retired = this.indicators.retireIdle(Date.now());
    if (retired.length > 0) this.options.onRetired?.(retired);
  }
}

/** By the bounds that the collector is to count by. */
export function configuredShapes({ metrics }: Pick<Config, "metrics">): Shapes {
  return shapesOf(new HistogramBounds(metrics.bounds));
}

/** Null when all are kept. */
function keptLabels({ labels, destinations }: ShardConfig["metrics"], shapes: Shapes): KeptLabels | null {
  const kept = [...LABELS.keys()].filter((label) => labels.includes(LABELS[label] as string));
  return kept.length === LABELS.length ? null : new KeptLabels(kept, destinations, shapes);
}

/** What names the ends of calls. Without objects nobody is asked for an address, so no entry's addresses are decoded. */
export function identitiesOf(config: Pick<Config, "identity">, lookup: AddressLookup): Identities {
  const { chain, kubernetes } = config.identity;
  const analyzers = kubernetes.objects.length > 0 ? chain : chain.filter((analyzer) => analyzer !== "k8s-mesh");
  return { analyzers, lookup, rules: nameRulesOf(config) };
}

export function serviceRulesOf({ health, endpoints, indicators }: ShardConfig): ServiceRules {
  return {
    policies: new SuccessPolicies(health.rate),
    endpoints: new Endpoints(endpoints),
    apdex: new ApdexThresholds(indicators.apdex),
  };
}

export function nameRulesOf({ identity: { names, kubernetes } }: Pick<Config, "identity">): NameRules {
  return { service: nameRule(names.service), instance: nameRule(names.instance), domain: kubernetes.domain };
}
