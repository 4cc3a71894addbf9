import { describe, expect, it } from "vitest";
import { FIELDS, parseFilter } from "../../collector/analysis/filter.ts";
import type { Side } from "../../collector/analysis/side.ts";

const SIDE: Side = {
  time: "2026-01-01T00:00:00.123Z",
  proxy: "sidecar~127.0.0.1~web.default~x",
  role: "sidecar",
  detectPoint: "client",
  source: { service: "web", namespace: "default", workload: "web-v1", instance: "web", analyzer: "mx-mesh" },
  destination: {
    service: null,
    namespace: null,
    workload: null,
    instance: null,
    analyzer: null,
    reason: "upstream_not_reached",
  },
  endpoint: "GET:/reviews/{id}",
  protocol: "http",
  tls: null,
  code: 503,
  grpcStatus: null,
  flags: ["UF", "URX"],
  startMs: 1_767_225_600_123,
  latencyMs: 100,
  success: false,
  requestBytes: 0,
  responseBytes: 2 ** 40,
  internalRequestLatencyNs: null,
  internalResponseLatencyNs: 7,
};

function isTaken(query: string): boolean {
  const filter = parseFilter(new URLSearchParams(query));
  if (typeof filter === "string") throw new Error(filter);
  return filter(SIDE);
}

describe("a filter", () => {
  it.each([
    ["nothing takes all", "", true],
    ["a number", "code=503", true],
    ["another", "code=500", false],
    ["a range", "code=500..599", true],
    ["its ends belong to it", "latencyMs=100..100", true],
    ["one above it", "code=500..502", false],
    ["open above", "latencyMs=100..", true],
    ["open above, and higher", "latencyMs=101..", false],
    ["open below", "requestBytes=..0", true],
    ["beyond 32 bits", "responseBytes=1099511627776", true],
    ["a number that is not known is in no range", "grpcStatus=0..", false],
    ["what is not known", "grpcStatus=null", true],
    ["what is known", "code=null", false],
    ["a truth", "success=false", true],
    ["the other", "success=true", false],
    ["text", "source.service=web", true],
    ["the case counts", "source.service=Web", false],
    ["a beginning", "source.workload=web*", true],
    ["an end", "endpoint=*{id}", true],
    ["a middle", "endpoint=*/reviews/*", true],
    ["parts in order", "endpoint=GET*views*id*", true],
    ["parts out of order", "endpoint=*id*views*", false],
    ["parts do not overlap", "source.service=web*b", false],
    ["a middle does not overlap the end", "endpoint=GET*{id}*{id}", false],
    ["any text", "source.service=*", true],
    ["any text is not null", "destination.service=*", false],
    ["a text that is not known", "destination.service=null", true],
    ["the reason why", "destination.reason=upstream*", true],
    ["of a closed set", "detectPoint=client&role=sidecar&protocol=http&source.analyzer=mx-mesh", true],
    ["one of the flags", "flags=URX", true],
    ["none of the flags", "flags=UT", false],
    ["no flags", "flags=null", false],
    ["dots are no pattern", "proxy=sidecar~127.0.0.1~web.default~x", true],
    ["nor are brackets", "proxy=(.*)+", false],
    ["fields are all to match", "code=503&success=true", false],
    ["a field twice is either", "code=404&code=500..599", true],
    ["either of them is to match", "code=404&code=500", false],
    ["time is text", "time=2026-01-01T00:*", true],
  ])("%s: %s", (_, query, expected) => {
    expect(isTaken(query)).toBe(expected);
  });

  it.each([
    ["kode=500", /^there is no field "kode", expected one of time, proxy, .*code, grpcStatus/],
    ["source=web", /^there is no field "source"/],
    ["__proto__=1", /^there is no field "__proto__"/],
    [
      "code=5xx",
      /^code: found "5xx", expected a whole number, a range such as 500\.\.599, 100\.\. or \.\.99, or null$/,
    ],
    ["code=", /^code: found "", expected a whole number/],
    ["code=..", /^code: found "\.\.", expected/],
    ["code=599..500", /^code: found "599\.\.500", expected/],
    ["latencyMs=-1", /^latencyMs: found "-1", expected/],
    ["latencyMs=1e3", /^latencyMs: found "1e3", expected/],
    ["success=yes", /^success: found "yes", expected true or false$/],
    ["protocol=htp", /^protocol: found "htp", expected one of http, grpc, tcp, with \* for any part of it, or null$/],
    ["source.service=", /^source\.service: found "", expected text/],
    [`proxy=${"x".repeat(257)}`, /^proxy: found .* expected text/],
    [Array.from({ length: 65 }, () => "code=1").join("&"), /^more than 64 values/],
  ])("%s is refused, and what was expected is said", (query, message) => {
    expect(parseFilter(new URLSearchParams(query))).toMatch(message);
  });

  it("has every field of a side", () => {
    const paths = Object.entries(SIDE).flatMap(([name, value]) =>
      name === "source" || name === "destination"
        ? Object.keys({ ...value, reason: "" }).map((key) => `${name}.${key}`)
        : [name],
    );
    expect([...FIELDS.keys()]).toEqual(paths);
  });
});
