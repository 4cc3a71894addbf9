// ScrapedStats: Envoy's own stats of proxies that are scraped, under the names that proxies have by `identity.names`.

import type { AddressLookup, NameRules } from "../../identity/lookup.ts";
import type { Subject } from "../../identity/names.ts";
import { type ProxyName, type ProxyStats, proxyLabels } from "../../proxy-stats/proxy-stats.ts";
import type { ProxyValue } from "../../record/proxy-stats.ts";
import { isNamedSubject } from "../../resolver/subject.ts";

export interface ScrapedStatsOptions {
  readonly stats: ProxyStats;
  readonly rules: NameRules;
  readonly lookup: Pick<AddressLookup, "findPod">;
}

export class ScrapedStats {
  constructor(private readonly options: ScrapedStatsOptions) {}

  /** Of the Kubernetes cluster: "cluster.local". */
  get domain(): string {
    return this.options.rules.domain;
  }

  /** `subject`: the proxy itself, as its node says. */
  take(nodeId: string, subject: Subject, values: readonly ProxyValue[]): void {
    const { stats } = this.options;
    const labels = proxyLabels(this.nameOf(nodeId, subject));
    if (!stats.hears(nodeId, labels, "scrape")) return;
    for (const { stat, cluster, value } of values) stats.take(labels, stat, cluster, value);
  }

  /** As a stream of the proxy names it, whose node has metadata; else as Kubernetes objects do, else by the node id alone. */
  private nameOf(nodeId: string, subject: Subject): ProxyName {
    const { rules, lookup } = this.options;
    const { name, namespace } = subject.end;
    const pod = isNamedSubject(subject) || name === "" ? null : lookup.findPod(namespace, name);
    if (pod !== null) return pod;
    return { service: rules.service.render(subject), instance: name === "" ? nodeId : rules.instance.render(subject) };
  }
}
