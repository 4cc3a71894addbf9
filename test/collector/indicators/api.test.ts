// GET /api/v1/indicators: what is asked for, what is answered.

import { beforeEach, describe, expect, it } from "vitest";
import { SuccessPolicies } from "../../../collector/analysis/policy.ts";
import { type Ends, Indicators } from "../../../collector/indicators/indicators.ts";
import type { CallMeasures } from "../../../collector/indicators/measures.ts";
import { readIndicators } from "../../../collector/web/indicators.ts";
import { sourceOf } from "./source.ts";

const MINUTE_MS = 60_000;
/** Five seconds into a minute. */
const NOW_MS = 28_333_334 * MINUTE_MS + 5000;

const SERVER: Ends = { point: "server", source: "web", destination: "reviews", instance: "reviews-1" };
const CLIENT: Ends = { ...SERVER, point: "client" };
const CALL: CallMeasures = {
  isSuccess: true,
  latencyNs: 10e6,
  satisfaction: "satisfied",
  requestBytes: 100,
  responseBytes: 1000,
  retries: 0,
  requestHeldNs: 1e6,
  responseHeldNs: null,
  code: "http 200",
  flags: [],
};

let indicators: Indicators;
beforeEach(() => {
  indicators = new Indicators({
    limit: 2000,
    endpointsPerService: 2000,
    lateAfterMs: 2 * MINUTE_MS,
    retireAfterMs: 10 * MINUTE_MS,
  });
});

function add(
  ends: Ends,
  { agoMs = 0, endpoint = "GET:/", ...changes }: Partial<CallMeasures> & { agoMs?: number; endpoint?: string } = {},
) {
  const target = indicators.target(ends);
  const ofServer = ends.point === "server" ? indicators.endpoint(ends.destination, endpoint) : null;
  indicators.addCall(target, ofServer, indicators.slotOf(NOW_MS - agoMs, NOW_MS), { ...CALL, ...changes });
}

interface Body {
  readonly total: number;
  readonly services: readonly Record<string, unknown>[];
  readonly endpoints: readonly Record<string, unknown>[];
  readonly edges: readonly Record<string, unknown>[];
  readonly error: { readonly code: string; readonly message: string };
}

async function ask(query: string): Promise<{ readonly status: number; readonly body: Body }> {
  const { status, body } = await readIndicators(sourceOf(indicators), new URLSearchParams(query), NOW_MS);
  return { status, body: body as Body };
}

describe("an answer", () => {
  it("has every measure in base units, and null for what nothing was measured of", async () => {
    add(SERVER);
    add(SERVER, {
      isSuccess: false,
      code: "http 503",
      satisfaction: "frustrated",
      latencyNs: null,
      requestHeldNs: null,
      retries: 2,
    });
    indicators.addConnection(indicators.target(SERVER), indicators.slotOf(0, NOW_MS), {
      isNew: true,
      receivedBytes: 7,
      sentBytes: 9,
      flags: [],
    });
    const aboutTenMs = expect.closeTo(0.01, 4);
    expect(await ask("")).toEqual({
      status: 200,
      body: {
        kind: "service",
        window: "live",
        total: 1,
        services: [
          {
            service: "reviews",
            detect_point: "server",
            start: new Date(NOW_MS - 65_000).toISOString(),
            seconds: 65,
            requests: 2,
            requests_per_second: 0.030769,
            success_ratio: 0.5,
            apdex_ratio: 0.5,
            latency_seconds: {
              mean: 0.01,
              p50: aboutTenMs,
              p75: aboutTenMs,
              p90: aboutTenMs,
              p95: aboutTenMs,
              p99: aboutTenMs,
              "p99.9": aboutTenMs,
            },
            request_bytes: 200,
            response_bytes: 2000,
            retries: 2,
            sidecar_request_latency_seconds: 0.001,
            sidecar_response_latency_seconds: null,
            tcp: { connections: 1, received_bytes: 7, sent_bytes: 9 },
            response_codes: { "http 200": 1, "http 503": 1 },
            health: "failure", // half of the requests failed with 5XX: by default from 10 % on
          },
        ],
      },
    });
  });

  it("says of a service's health what its own policy says", async () => {
    const rate = [{ namespace: "ns2", name: "reviews", tolerance: [{ code: "4XX", degraded: 5, failure: 90 }] }];
    const policies = new SuccessPolicies(rate);
    for (let i = 0; i < 10; i++) add({ ...SERVER, namespace: "ns2" }, { code: i === 0 ? "http 404" : "http 503" });
    const { body } = await readIndicators(sourceOf(indicators), new URLSearchParams(), NOW_MS, policies);
    expect(body).toMatchObject({
      services: [{ health: "degraded", response_codes: { "http 404": 1, "http 503": 9 } }],
    });
  });

  it.each(["service", "instance", "endpoint", "edge"])("is empty where there is nothing: %s", async (kind) => {
    expect(await ask(`kind=${kind}`)).toEqual({
      status: 200,
      body: { kind, window: "live", total: 0, [`${kind}s`]: [] },
    });
  });

  it("leaves out what had no traffic in its window", async () => {
    add(SERVER, { agoMs: 90_000 });
    expect((await ask("")).body.total).toBe(0);
    expect((await ask("window=minutes")).body.total).toBe(1);
  });

  it("has what moved bytes alone: a connection that was there before", async () => {
    const gained = { isNew: false, receivedBytes: 0, sentBytes: 1, flags: [] };
    indicators.addConnection(indicators.target(SERVER), indicators.slotOf(0, NOW_MS), gained);
    expect((await ask("")).body.services).toMatchObject([{ requests: 0, tcp: { connections: 0, sent_bytes: 1 } }]);
  });

  it("has those with the most calls first, as many as are asked for, and how many there are", async () => {
    for (const [destination, calls] of [
      ["a", 1],
      ["b", 3],
      ["c", 2],
    ] as const) {
      for (let i = 0; i < calls; i++) add({ ...CLIENT, destination });
    }
    const { total, services } = (await ask("limit=2")).body;
    expect([total, ...services.map(({ service }) => service)]).toEqual([3, "b", "c"]);
  });

  it("has a hundred if nothing is said, and a thousand at most", async () => {
    for (let i = 0; i < 1200; i++) add({ ...CLIENT, destination: `s${i}` });
    expect((await ask("")).body.services).toHaveLength(100);
    expect((await ask("limit=1000")).body.services).toHaveLength(1000);
    expect((await ask("limit=1000")).body.total).toBe(1200);
  });

  it("has names as they are, whatever they hold", async () => {
    const destination = '</script>"\\\u0000\u{1f480}';
    add({ ...CLIENT, destination });
    const query = new URLSearchParams({ service: destination }).toString();
    const { body } = await ask(query);
    expect(body.services).toMatchObject([{ service: destination }]);
    expect(JSON.parse(JSON.stringify(body))).toEqual(body);
  });
});

describe("a window", () => {
  beforeEach(() => {
    for (const agoMs of [0, 4000, 6000, 20_000, 50_000, 64_000, 66_000]) add(SERVER, { agoMs });
  });

  it.each([
    ["live", "", NOW_MS - 65_000, 65, 6],
    ["minute", "window=minute", NOW_MS - 65_000, 60, 4],
  ])("is what began in it: %s", async (_, query, startMs, seconds, requests) => {
    const start = new Date(startMs).toISOString();
    expect((await ask(query)).body.services).toMatchObject([{ start, seconds, requests }]);
  });

  it("is each whole minute that is kept, the newest first", async () => {
    const [service] = (await ask("window=minutes")).body.services;
    const minutes = service?.["minutes"] as readonly { readonly start: string; readonly requests: number }[];
    expect(minutes.map(({ requests }) => requests)).toEqual([4, 1]);
    expect(minutes.map(({ start }) => Date.parse(start))).toEqual([NOW_MS - 65_000, NOW_MS - 125_000]);
    expect(service).toMatchObject({ service: "reviews", detect_point: "server" });
    expect(Object.keys(service ?? {})).toHaveLength(3);
  });
});

describe("a filter", () => {
  beforeEach(() => {
    add(SERVER, { endpoint: "GET:/a" });
    add(SERVER, { endpoint: "GET:/b" });
    add(CLIENT);
    add({ ...CLIENT, destination: "ratings" });
  });

  it.each([
    ["", 3],
    ["service=reviews", 2],
    ["service=reviews&detect_point=client", 1],
    ["service=", 3],
    ["service=review", 0],
    ["service=REVIEWS", 0],
    ["service=re*", 0],
    ["kind=edge&source=web", 3],
    ["kind=edge&destination=ratings", 1],
    ["kind=instance&instance=reviews-1", 1],
    ["kind=endpoint&endpoint=GET%3A%2Fb", 1],
  ])("keeps those that have these labels: %s", async (query, total) => {
    expect((await ask(query)).body.total).toBe(total);
  });
});

describe("a request that cannot be answered is told what was found and what was expected", () => {
  it.each([
    ["kind=pods", 'kind: found "pods", expected one of service, instance, endpoint, edge'],
    ["kind=", 'kind: found "", expected one of service, instance, endpoint, edge'],
    ["kind=toString", 'kind: found "toString", expected one of service, instance, endpoint, edge'],
    ["window=60s", 'window: found "60s", expected one of live, minute, minutes'],
    ...["0", "-1", "1001", "1e3", "ten", "", " 5", "99999999999999999999"].map((limit) => [
      `limit=${limit}`,
      `limit: found "${limit}", expected a whole number from 1 to 1000`,
    ]),
    ["service=a&service=b", "service: found 2 values, expected one"],
    ["detect_point=nowhere", 'detect_point: found "nowhere", expected one of client, server'],
    [
      "nonsense=1",
      '"nonsense": an unknown parameter of kind=service, expected one of kind, window, limit, service, detect_point',
    ],
    [
      "kind=edge&service=a",
      '"service": an unknown parameter of kind=edge, expected one of kind, window, limit, source, destination, detect_point',
    ],
    [
      "kind=endpoint&detect_point=server",
      '"detect_point": an unknown parameter of kind=endpoint, expected one of kind, window, limit, service, endpoint',
    ],
  ])("%s", async (query, message) => {
    expect(await ask(query)).toEqual({ status: 400, body: { error: { code: "bad_request", message } } });
  });

  it("in few words, however long it was", async () => {
    for (const parameter of ["kind", "window", "limit", "x".repeat(100_000)]) {
      const { status, body } = await ask(`${parameter}=${"y".repeat(100_000)}`);
      expect([status, body.error.message.length < 400]).toEqual([400, true]);
    }
  });
});
