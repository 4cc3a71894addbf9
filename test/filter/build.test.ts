// istio_build: which version of Istio the proxy says it is of.

import { describe, expect, test } from "vitest";
import { MetricKind } from "../../filter/vocabulary/metrics.ts";
import type { Host } from "../host/host.ts";
import { faults, REVIEWS, startInbound, withMetadata } from "../host/mesh.ts";
import type { Json } from "../host/struct.ts";

function startOf(version: Json | undefined): Host {
  return startInbound({ node: withMetadata(REVIEWS, { ISTIO_VERSION: version }) });
}

function builds(host: Host) {
  return host.stats
    .all()
    .filter(({ statName }) => statName.endsWith("istio_build"))
    .map(({ statName, kind, value }) => ({ statName, kind, value }));
}

/** As Istio's bootstrap cuts the name: its two tags, and what is left. */
function cut(statName: string): (string | undefined)[] {
  const [component, tag] = [/(component\.(.*?)\.)/.exec(statName), /(tag\.(.*?);\.)/.exec(statName)];
  const name = statName.replace(component?.[1] ?? "", "").replace(tag?.[1] ?? "", "");
  return [component?.[2], tag?.[2], name];
}

describe("istio_build", () => {
  test("is a gauge of 1 that names the version, once the plugin is configured", () => {
    expect(builds(startOf("1.29.0"))).toEqual([
      { statName: "component.proxy.tag.1.29.0;.istio_build", kind: MetricKind.Gauge, value: 1n },
    ]);
  });

  test.each<[string, Json | undefined, string]>([
    ["absent", undefined, "unknown"],
    ["empty", "", "unknown"],
    ["with a semicolon", "1.29;.0;", "1.29_.0_"],
    ["with letters", "1.29-alpha.0f3a", "1.29-alpha.0f3a"],
    ["with a dot at the end", "1.29.", "1.29"],
    ["with control characters", "1.29\n0", "1.29_0"],
  ])("%s: cut by Istio's bootstrap as it should be", (_, version, expected) => {
    const [only, ...more] = builds(startOf(version));
    expect(more).toEqual([]);
    expect(cut(only?.statName ?? "")).toEqual(["proxy", expected, "istio_build"]);
  });

  test.each<[Json]>([[129], [true], [{}]])("a version of another type, %j: no trap, one series of 1", (version) => {
    const host = startOf(version);
    expect(builds(host)).toMatchObject([{ value: 1n }]);
    expect(cut(builds(host)[0]?.statName ?? "")[2]).toBe("istio_build");
    expect(faults(host)).toEqual({});
  });

  test("stays 1 when the VM has several plugins, or is configured again", () => {
    const host = startOf("1.29.0");
    host.addPlugin({ direction: "outbound" });
    host.configure(1, { direction: "inbound" });
    expect(builds(host)).toMatchObject([{ value: 1n }]);
  });
});
