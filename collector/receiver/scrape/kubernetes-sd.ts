// Targets among Kubernetes' pods: those that have a proxy, where it shows its stats.

import type { Objects, Pod, ProxyStats } from "../../identity/objects.ts";
import type { DiscoveryReport } from "./discovery.ts";
import { readTargetGroups } from "./target-groups.ts";
import type { TargetSpec } from "./target-spec.ts";

/** Of the pods that run and have an address. One whose annotations are none that can be read is left out, and told of. */
export function podTargets(objects: Objects, report: DiscoveryReport): TargetSpec[] {
  return [...objects.Pod.values()].flatMap((pod) => {
    const [address] = pod.addresses;
    if (pod.proxyStats === null || pod.phase !== "Running" || address === undefined) return [];
    try {
      return targetsOf(address, pod.proxyStats);
    } catch (error: unknown) {
      report.fail("kubernetes", nameOf(pod), error);
      return [];
    }
  });
}

function targetsOf(address: string, { port, path, scheme, hasFilter }: ProxyStats): TargetSpec[] {
  const host = address.includes(":") ? `[${address}]` : address;
  const target = port === "" ? host : `${host}:${port}`;
  const labels = { __metrics_path__: path, __scheme__: scheme, __meshtally_filter__: String(hasFilter) };
  return readTargetGroups([{ targets: [target], labels }]);
}

function nameOf({ namespace, name }: Pod): string {
  return `Pod ${namespace}/${name}`;
}
