// Indicators on the local mesh equal what its applications measured themselves: calls, failures and bytes exactly, latencies between
// those of the servers and those of their callers, whose proxies lie in between.

import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { QUANTILES } from "../../collector/indicators/summary.ts";
import type { TcpEdgeCount } from "../../demo/tally.ts";
import { DATABASE, RATINGS } from "../../demo/topology.ts";
import type { Sample } from "./exposition.ts";
import { apdex, type Call, isSuccess, type Point, quantile, serviceOf, totalSeconds } from "./measured.ts";
import { type Answered, family, MeasuredMesh, type Reading, sidesOf, sorted } from "./measured-mesh.ts";

const UNROUTED = 10;
const BACKUPS = 2;
const WITHOUT_DETAILS = 20;
/** Of a sketch's quantile. */
const RELATIVE_ERROR = 0.01;

/** Calls by some words of theirs, summed up. */
function sums(
  calls: readonly Call[],
  key: (call: Call) => (string | null | boolean)[],
  value: (call: Call) => number = () => 1,
) {
  const found = new Map<string, number>();
  for (const call of calls) found.set(key(call).join(" "), (found.get(key(call).join(" ")) ?? 0) + value(call));
  return sorted([...found]);
}

/** Values by one label, summed up. */
function add(samples: readonly Sample[], label: string): Record<string, number> {
  const found = new Map<string, number>();
  for (const { labels, value } of samples) {
    const name = labels[label] ?? "";
    found.set(name, (found.get(name) ?? 0) + value);
  }
  return sorted([...found].filter(([, value]) => value !== 0));
}

/** Of the one series that has these labels. */
function shownValue(samples: readonly Sample[], name: string, labels: Record<string, string>): number {
  const found = samples.filter(
    (sample) =>
      sample.name === name && Object.entries(labels).every(([label, value]) => sample.labels[label] === value),
  );
  expect(found, `${name} ${JSON.stringify(labels)}`).toHaveLength(1);
  return found[0]?.value as number;
}

function expectRising(...pairs: readonly (readonly [less: number, more: number])[]): void {
  for (const [less, more] of pairs) expect(less).toBeLessThanOrEqual(more);
}

function served(calls: readonly Call[]): Call[] {
  return calls.filter(({ point }) => point === "server");
}

function ofService(calls: readonly Call[], service: string): { readonly own: Call[]; readonly callers: Call[] } {
  const own = served(calls).filter(({ destination }) => destination === service);
  const callers = calls.filter(({ point, destination }) => point === "client" && destination === service);
  return { own, callers };
}

const SERVICES = ["details.default", "productpage.default", "ratings.default", "reviews.default"];
const isInMesh = (service: string | undefined) => SERVICES.includes(service ?? "");
const byService = ({ destination, point }: Call) => [destination, point];
const received = ({ receivedBytes }: Call) => receivedBytes;

describe.each([
  { name: "with the filter's observation", filter: true, requests: 800 },
  { name: "derived from the entries alone", filter: false, requests: 150 },
])("$name", ({ filter, requests }) => {
  let run: MeasuredMesh;
  /** While all servers were there, and after one of them was gone. */
  let whole: Reading;
  let all: Reading;
  let answers: Record<string, readonly Answered[]>;

  beforeAll(async () => {
    run = await MeasuredMesh.start(filter);
    const { mesh } = run;
    await run.askPages(requests);
    for (let i = 0; i < UNROUTED; i++) await run.ask(`/orders/3f2504e0-4f89-41d3-9a0c-0305e82c33${i}1`, {}, false);
    for (let i = 0; i < BACKUPS; i++) await mesh.backUp();
    whole = await run.reading();
    answers = await run.answers();
    await mesh.kill("details-v1");
    for (let i = 0; i < WITHOUT_DETAILS; i++) await run.ask(`/productpage/${i}`);
    await run.askNobody();
    all = await run.reading();
  });
  afterAll(() => run?.mesh.stop());

  test.each([
    ["service", ({ destination, point }: Call) => [destination, point]],
    ["edge", ({ source, destination, point }: Call) => [source, destination, point]],
  ] as const)("each %s has the calls and failures that were counted, on either side", (kind, key) => {
    const expected = sums(all.calls, (call) => [...key(call), isSuccess(call, call.point)]);
    expect(Object.keys(expected).length).toBeGreaterThan(10);
    expect(family(all.samples, `mesh_${kind}_requests_total`)).toEqual(expected);
  });

  test.each([
    ["instance", ({ destination, instance }: Call) => [destination, instance]],
    ["endpoint", ({ destination, endpoint }: Call) => [destination, endpoint]],
  ] as const)("each %s has the calls and failures that were counted", (kind, key) => {
    const expected = sums(served(all.calls), (call) => [...key(call), isSuccess(call, call.point)]);
    expect(Object.keys(expected).length).toBeGreaterThan(6);
    expect(family(all.samples, `mesh_${kind}_requests_total`)).toEqual(expected);
  });

  test("instances, endpoints and edges of a service add up to it", () => {
    const names = ["requests_total", "request_bytes_total", "response_bytes_total", "tcp_sent_bytes_total"];
    const ofServers = ({ labels }: Sample) => (labels["detect_point"] ?? "server") === "server";
    const totals = (kind: string, label: string, name: string) =>
      add(
        all.samples.filter((sample) => sample.name === `mesh_${kind}_${name}` && ofServers(sample)),
        label,
      );
    for (const name of names) {
      const services = totals("service", "service", name);
      expect(totals("instance", "service", name)).toEqual(services);
      expect(totals("edge", "destination", name)).toEqual(services);
      if (name !== "tcp_sent_bytes_total") expect(totals("endpoint", "service", name)).toEqual(services);
    }
  });

  test("between two sidecars both sides count the same, but for what a client alone takes for a failure", () => {
    const totals = (point: Point) =>
      add(
        whole.samples.filter(
          ({ name, labels }) =>
            name === "mesh_service_requests_total" && labels["detect_point"] === point && isInMesh(labels["service"]),
        ),
        "service",
      );
    expect(Object.keys(totals("server")).sort()).toEqual(SERVICES);
    expect(totals("client")).toEqual(totals("server"));
  });

  test("what reached no server counts against whom it was for, on the client's side alone", () => {
    expect(family(all.samples, "mesh_edge_response_flags_total")).toEqual({
      "productpage.default details.default client UF": WITHOUT_DETAILS,
      "unknown ingress-gateway.ingress server NR": UNROUTED,
    });
    const failures = (reading: Reading, point: Point) =>
      family(reading.samples, "mesh_service_requests_total")[`details.default ${point} false`] ?? 0;
    expect(failures(all, "client") - failures(whole, "client")).toBe(WITHOUT_DETAILS);
    expect(failures(all, "server")).toBe(failures(whole, "server"));
    const ofNowhere = Object.entries(family(all.samples, "mesh_edge_requests_total")).filter(([id]) =>
      id.includes("nowhere"),
    );
    expect(ofNowhere).toEqual([["productpage.default nowhere.default client false", 1]]);
  });

  test("bytes are what servers and callers received, headers and bodies", () => {
    const requestBytes = sums(
      served(whole.calls).filter(({ destination }) => isInMesh(destination)),
      byService,
      received,
    );
    const responseBytes = sums(
      whole.calls.filter(({ point }) => point === "client"),
      byService,
      received,
    );
    expect(Object.keys(requestBytes)).toHaveLength(SERVICES.length);
    expect(family(whole.samples, "mesh_service_request_bytes_total")).toMatchObject(requestBytes);
    expect(family(whole.samples, "mesh_service_response_bytes_total")).toMatchObject(responseBytes);
  });

  test("connections to the database and their bytes are what its callers counted", () => {
    const database = serviceOf(DATABASE);
    const expected = (value: (edge: TcpEdgeCount) => number) =>
      sorted(
        all.tcp.flatMap((edge): [string, number][] => [
          [`${run.knownCaller(edge.source)} ${database} server`, value(edge)],
          ...(sidesOf(edge.source) === 2
            ? [[`${serviceOf(RATINGS)} ${database} client`, value(edge)] satisfies [string, number]]
            : []),
        ]),
      );
    expect(all.tcp.map(({ source }) => source)).toEqual([RATINGS.name, "unknown"]);
    expect(family(all.samples, "mesh_edge_tcp_connections_total")).toEqual(expected(({ opened }) => opened));
    expect(family(all.samples, "mesh_edge_tcp_sent_bytes_total")).toEqual(expected(({ sentBytes }) => sentBytes));
    expect(family(all.samples, "mesh_edge_tcp_received_bytes_total")).toEqual(
      expected(({ receivedBytes }) => receivedBytes),
    );
  });

  // Each call takes its server less time than its server's proxy sees, that less than its client's, and that less than its caller waits.
  // So do the quantiles and the sums of all of them, whatever the machine does meanwhile.
  test.each(SERVICES)("latencies of %s lie between those of its servers and those of its callers", (service) => {
    const { own, callers } = ofService(whole.calls, service);
    const shown = (point: Point, name: string, labels: Record<string, string> = {}) =>
      shownValue(whole.samples, `mesh_service_latency_${name}`, { service, detect_point: point, ...labels });
    expect(own).toHaveLength(callers.length);
    for (const q of QUANTILES) {
      const of = (point: Point) => shown(point, "quantile_seconds", { window: "live", quantile: String(q) });
      expectRising(
        [quantile(own, q), of("server") * (1 + RELATIVE_ERROR)],
        [of("server") * (1 - RELATIVE_ERROR), of("client") * (1 + RELATIVE_ERROR)],
        [of("client") * (1 - RELATIVE_ERROR), quantile(callers, q)],
      );
    }
    expect(shown("server", "seconds_count")).toBe(own.length);
    expect(shown("client", "seconds_count")).toBe(callers.length);
    expectRising(
      [totalSeconds(own), shown("server", "seconds_sum")],
      [shown("server", "seconds_sum"), shown("client", "seconds_sum")],
      [shown("client", "seconds_sum"), totalSeconds(callers)],
    );
    const mean = shown("server", "mean_seconds", { window: "live" });
    expect(mean).toBeCloseTo(shown("server", "seconds_sum") / own.length, 9);
  });

  // Delays are so far from the thresholds that the two bounds are one number, unless the machine stood still for half a second.
  test.each(SERVICES)("Apdex of %s is what its servers' and its callers' own latencies give", (service) => {
    const { own, callers } = ofService(whole.calls, service);
    for (const point of ["server", "client"] as const) {
      const labels = { service, detect_point: point, window: "live" };
      const shown = shownValue(whole.samples, "mesh_service_apdex_ratio", labels);
      expectRising([apdex(callers, point), shown], [shown, apdex(own, point)]);
      expect(shown).toBeLessThan(1);
    }
  });

  test("/api/v1/indicators says the same as /metrics", () => {
    for (const [kind, found] of Object.entries(answers)) {
      const succeeded = (text: string) => ["true", "false"].map((success) => `${text} ${success}`);
      const requestsShown = family(whole.samples, `mesh_${kind}_requests_total`);
      const ratios = family(
        whole.samples.filter(({ labels }) => labels["window"] === "live"),
        `mesh_${kind}_success_ratio`,
      );
      expect(found.length).toBeGreaterThan(5);
      for (const subject of found.filter(({ requests }) => requests > 0)) {
        const labels = subject.subject.join(" ");
        expect(subject.requests).toBe(succeeded(labels).reduce((sum, id) => sum + (requestsShown[id] ?? 0), 0));
        expect(subject.successRatio).toBeCloseTo(ratios[`${labels} live`] ?? 0, 6);
      }
    }
  });

  test("no call came late, early, or without room", () => {
    const lost = all.samples.filter(({ name }) => /refused_total|out_of_time_total/.test(name));
    expect(lost).toHaveLength(6);
    expect(lost.filter(({ value }) => value !== 0)).toEqual([]);
  });
});
