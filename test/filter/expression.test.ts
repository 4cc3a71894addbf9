// Expressions evaluated: results as on a real Envoy, one host call for all of them, and what happens when some fail.

import { describe, expect, test } from "vitest";
import { type Host, type HostOptions, PLAIN_REQUEST, PLAIN_RESPONSE, type StreamOptions } from "../host/host.ts";
import { faults } from "../host/mesh.ts";
import { decodeStruct, sortKeys } from "../host/struct.ts";
import { CASE_CLUSTER, CASE_HEADERS, CASE_HOST, CASE_NODE, CASE_PATH, CASES } from "./expression/cases.ts";
import { results, startProbe } from "./expression/start.ts";

const ROOT_ID = 1;
const EVALUATE = "proxy_call_foreign_function";

function start(expressions: readonly string[], options: Partial<HostOptions> & { tick?: true } = {}): Host {
  return startProbe(expressions, { node: CASE_NODE, ...options });
}

/** Evaluates for one request; how many calls of foreign functions that took. */
function callsOf(host: Host, options: StreamOptions = {}): number {
  host.calls.clear();
  host.request(options);
  return host.calls.get(EVALUATE) ?? 0;
}

/** What the probe logs of an expression: "index failed isTrue number text". */
function facts(host: Host, options: StreamOptions = {}): string[] {
  host.logs.length = 0;
  host.request(options);
  return host.logs.filter(({ level }) => level === "info").map(({ text }) => text);
}

const withHeader = (value: string): StreamOptions => ({ requestHeaders: [...PLAIN_REQUEST, ["x-n", value]] });
/** Fails unless the request has the header; not guarded, as it is no plain path. */
const FRAGILE = "request.headers['x-n'] + ''";

describe("as on a real Envoy", () => {
  const host = start(Object.keys(CASES), { direction: "inbound" });
  const options: StreamOptions = {
    requestHeaders: [
      [":authority", CASE_HOST],
      [":path", CASE_PATH],
      [":method", "GET"],
      ...Object.entries(CASE_HEADERS),
    ],
    responseHeaders: [...PLAIN_RESPONSE, ["x-answer", "yes"]],
    routeName: "default",
    cluster: CASE_CLUSTER,
    properties: { "destination.port": 80n },
  };
  const all = [host.request(options), host.request(options)].map(results);

  test.for(Object.keys(CASES).map((source, index) => ({ source, index })))("$source", ({ source, index }) => {
    expect(all.map((result) => result[index])).toEqual([CASES[source], CASES[source]]);
  });

  test("an expression's own failure is no fault of the host", () => {
    expect(faults(host)).toEqual({});
  });
});

describe("host calls", () => {
  test("one evaluates all expressions of a request", () => {
    const host = start(["request.host", "response.code", "request.headers['x-absent']", "node.id"]);
    expect(callsOf(host)).toBe(2); // the list is compiled by the first request
    expect(callsOf(host)).toBe(1);
    expect(results(host.request())).toEqual(["reviews:9080", "200", "unknown", CASE_NODE.id]);
  });

  test("without expressions there is none", () => {
    expect(callsOf(start([]))).toBe(0);
    expect(callsOf(start(["foo(1)"]))).toBe(0);
  });

  test("a source that stands twice is evaluated once", () => {
    const host = start(["request.host", "response.code", "request.host"]);
    expect(host.foreign.expressionCount(ROOT_ID)).toBe(2);
    expect(results(host.request())).toEqual(["reviews:9080", "200", "reviews:9080"]);
  });

  test("an expression that failed is evaluated alone from then on, the others stay together", () => {
    const host = start(["request.host", FRAGILE, "response.code"]);
    // The list is made and fails, all three alone, the list is dropped.
    expect(callsOf(host)).toBe(1 + 1 + 3 + 1);
    expect(callsOf(host)).toBe(1 + 1 + 1); // a list of two is made and read, the third alone
    expect(callsOf(host)).toBe(1 + 1);
    expect(results(host.request(withHeader("5")))).toEqual(["reviews:9080", "5", "200"]);
    expect(results(host.request())).toEqual(["reviews:9080", "unknown", "200"]);
    expect(callsOf(host)).toBe(1 + 1);
  });

  test("where all have failed there is no list", () => {
    const host = start(["1 / 0", "nosuch.x"]);
    callsOf(host);
    expect(callsOf(host)).toBe(2);
    expect(callsOf(host)).toBe(2);
    expect(results(host.request())).toEqual(["unknown", "unknown"]);
  });

  test("a list that failed although none of its expressions did stays", () => {
    const host = start(["request.host", "response.code"]);
    host.request();
    const sane = host.foreign.call.bind(host.foreign);
    let hasFailed = false;
    host.foreign.call = (rootId, name, parameters, variables) => {
      if (hasFailed) return sane(rootId, name, parameters, variables);
      hasFailed = true;
      return 10;
    };
    expect(callsOf(host)).toBe(1 + 2);
    expect(callsOf(host)).toBe(1);
    expect(faults(host)).toEqual({});
  });

  test("a list that the host refuses is not asked for again", () => {
    const host = start(["request.host", "response.code"]);
    host.failures.set(EVALUATE, 2);
    host.request();
    host.failures.clear();
    expect(callsOf(host)).toBe(2);
    expect(results(host.request())).toEqual(["reviews:9080", "200"]);
  });
});

describe("results", () => {
  test("a failed one reads unknown, is neither true nor a number", () => {
    expect(facts(start([FRAGILE]))).toEqual(["0 true false 0 unknown"]);
    expect(facts(start(["request.headers['x-n']"]))).toEqual(["0 false false 0 unknown"]);
  });

  test("true is the bool or its text, nothing else", () => {
    const isTrue = (source: string) => facts(start([source]))[0]?.split(" ")[2];
    for (const source of ["response.code == 200", "'true'", "true"]) expect(isTrue(source)).toBe("true");
    for (const source of ["response.code == 1", "'True'", "'true '", "1", "''"]) expect(isTrue(source)).toBe("false");
  });

  test.for([
    ["0", "0"],
    ["42", "42"],
    ["007", "7"],
    ["18446744073709551615", "18446744073709551615"],
    ["18446744073709551616", "18446744073709551615"],
    ["99999999999999999999999", "18446744073709551615"],
    ["99999999999999999999999x", "0"],
    ["-1", "0"],
    ["+1", "0"],
    ["1.5", "0"],
    ["1 ", "0"],
    ["", "0"],
    ["/", "0"],
    [":", "0"],
  ] as const)("the number of '%s' is %s", ([text, expected]) => {
    expect(facts(start([`'${text}'`]))[0]?.split(" ")[3]).toBe(expected);
  });

  test("numbers come from ints and uints of any size", () => {
    const host = start(["response.code + 1", "18446744073709551615u", "-1"]);
    expect(facts(host).map((line) => line.split(" ")[3])).toEqual(["201", "18446744073709551615", "0"]);
  });

  test("text is cut at 512 bytes, alone and in the list", () => {
    const long = "x".repeat(512);
    const host = start(["request.headers['x-n']", FRAGILE]);
    host.request();
    expect(results(host.request(withHeader(long)))).toEqual([long, long]);
    expect(results(host.request(withHeader(`${long}y`)))).toEqual([long, long]);
  });

  test("an empty text is no failure", () => {
    expect(facts(start(["''"]))).toEqual(["0 false false 0 "]);
  });

  test("text may hold what separates values in the list", () => {
    const host = start(["'a\\u0000\\u0000b'", "'c'"]);
    expect(results(host.request())).toEqual(["a\0\0b", "c"]);
  });
});

describe("a host that answers nonsense", () => {
  const nonsense = [
    Buffer.alloc(0),
    Buffer.alloc(3),
    Buffer.from([2, 0, 0, 0]),
    Buffer.from([255, 255, 255, 255]),
    ...[0, 5, 6, 0x7fffffff, 0xfffffffe, 0xffffffff].map((size) => {
      const bytes = Buffer.alloc(24);
      bytes.writeUInt32LE(2, 0);
      bytes.writeUInt32LE(size, 4);
      bytes.writeUInt32LE(size, 12);
      return bytes;
    }),
  ];

  test.for(nonsense.map((bytes) => bytes.toString("hex")))(
    "a list of the bytes '%s' is counted and read alone",
    (hex) => {
      const host = start(["request.host", "response.code"]);
      host.request();
      const sane = host.foreign.call.bind(host.foreign);
      let isFirst = true;
      host.foreign.call = (rootId, name, parameters, variables) => {
        if (!isFirst) return sane(rootId, name, parameters, variables);
        isFirst = false;
        return Buffer.from(hex, "hex");
      };
      const isValid = hex.length === 48 && hex.startsWith("0200000000000000"); // two empty texts, and bytes to spare
      expect(results(host.request())).toEqual(isValid ? ["", ""] : ["reviews:9080", "200"]);
      expect(faults(host)).toEqual(isValid ? {} : { host_call: 1 });
    },
  );

  test("an evaluation that is no expression's failure is counted", () => {
    const host = start(["request.host"]);
    host.request();
    host.failures.set(EVALUATE, 1);
    host.request();
    expect(faults(host)).toEqual({ host_call: 1 }); // "not found" of the list is one, and of each expression
  });
});

describe("limits", () => {
  test("64 expressions, the rest is refused", () => {
    const host = start(Array.from({ length: 70 }, (_, index) => `${index} + 0`));
    const all = results(host.request());
    expect(all.slice(0, 64)).toEqual(Array.from({ length: 64 }, (_, index) => String(index)));
    expect(all.slice(64)).toEqual(Array(6).fill("refused"));
  });

  test("4 KiB of source in UTF-8", () => {
    const long = (bytes: number) => `'${"x".repeat(bytes - 2)}'`;
    const wide = `'${"ß".repeat(2048)}'`;
    expect(results(start([long(4096), long(4097), wide]).request())).toEqual(["x".repeat(512), "refused", "refused"]);
  });
});

describe("plugins of one VM", () => {
  test("give their tokens back, the list's too, when they are configured anew", () => {
    const host = start(["request.host", "response.code"]);
    host.request();
    expect(host.foreign.expressionCount(ROOT_ID)).toBe(3);
    host.configure(ROOT_ID, { expressions: ["request.host"] });
    expect(host.foreign.expressionCount(ROOT_ID)).toBe(1);
    expect(results(host.request())).toEqual(["reviews:9080"]);
  });
});

describe("where there is no stream of its own", () => {
  const options: StreamOptions = {
    cluster: CASE_CLUSTER,
    filterState: { "envoy.filters.http.grpc_stats": "3,5" },
    properties: { "source.address": "10.0.0.1:4711" },
  };

  test("a tick reads the properties of the effective context, but expressions do not see it", () => {
    const host = start(["cluster_name", "node.id"], { tick: true });
    expect(host.tickPeriodMs.get(ROOT_ID)).toBe(1000);
    const stream = host.stream(options).sendRequestHeaders();
    host.logs.length = 0;
    host.tick();
    const texts = host.logs.map(({ text }) => text);
    expect(texts.slice(0, 4)).toEqual(["status 0", CASE_CLUSTER.name, "absent", "3,5"]);
    expect(texts.slice(4)).toEqual(["0 false false 0 unknown", `1 false false 0 ${CASE_NODE.id}`]);
    stream.filterState.set("envoy.filters.http.grpc_stats", Buffer.from("4,5"));
    host.logs.length = 0;
    host.tick();
    expect(host.logs[3]?.text).toBe("4,5");
    stream.sendResponseHeaders().log();
    expect(results(stream)).toEqual([CASE_CLUSTER.name, CASE_NODE.id]);
    host.logs.length = 0;
    host.tick();
    expect(host.logs[0]?.text).toBe("status 2"); // the stream is no more
  });

  test("no tick comes unasked", () => {
    const host = start(["node.id"]);
    host.logs.length = 0;
    host.tick();
    expect(host.logs).toEqual([]);
  });

  test("an access logger evaluates, and has no filter state to set", () => {
    const host = start([
      "cluster_name",
      "request.host",
      "source.address",
      "filter_state['envoy.filters.http.grpc_stats']",
    ]);
    host.logs.length = 0;
    const stream = host.logAsAccessLogger(options);
    const texts = host.logs.map(({ text }) => text.split(" ").at(-1));
    expect(texts).toEqual([CASE_CLUSTER.name, "reviews:9080", "10.0.0.1:4711", "3,5"]);
    expect(stream.filterState.has("wasm.probe")).toBe(false);
    expect(faults(host)).toEqual({});
  });
});

describe("the peers' Structs", () => {
  const workload = {
    app: "lone",
    cluster: "test",
    labels: { app: "lone", "example.com/role": "test" },
    name: "lone-1",
    namespace: "default",
    type: "deployment",
    workload: "lone",
  };

  function peer(node = CASE_NODE) {
    const state = start(["upstream_peer.name"], { node }).request().filterState.get("wasm.meshtally.upstream_peer");
    if (state === undefined) throw new Error("no peer");
    return decodeStruct(state);
  }

  test("have Istio's keys, in order, and leave out what is absent", () => {
    expect(JSON.stringify(peer())).toBe(JSON.stringify(sortKeys(workload)));
  });

  test("hold all that a workload has", () => {
    const labels = {
      "app.kubernetes.io/name": "recommended",
      app: "plain",
      "app.kubernetes.io/version": "v9",
      "service.istio.io/canonical-name": "canonical",
      "service.istio.io/canonical-revision": "r1",
    };
    const more = { IDENTITY: "spiffe://x", REGION: "r", AVAILABILITY_ZONE: "z", LABELS: labels };
    expect(peer({ ...CASE_NODE, metadata: { ...CASE_NODE.metadata, ...more } })).toEqual({
      ...workload,
      app: "recommended",
      version: "v9",
      service: "canonical",
      revision: "r1",
      identity: "spiffe://x",
      region: "r",
      availability_zone: "z",
      labels,
    });
  });

  test("always have labels, and a type only for an owner that is exchanged", () => {
    const OWNER = "kubernetes://apis/apps/v1/namespaces/default/replicasets/lone";
    expect(peer({ id: "x", metadata: { OWNER, WORKLOAD_NAME: "lone" } })).toEqual({ labels: {}, workload: "lone" });
  });

  test("are asked for only by expressions about peers", () => {
    const states = (source: string) => [...start([source]).request().filterState.keys()].length > 1;
    expect(states("request.host")).toBe(false);
    expect(states("'upstream_peer'")).toBe(false);
    expect(states("filter_state['x']")).toBe(false);
    expect(states("filter_state['downstream_peer'].app")).toBe(true);
    expect(states("has(filter_state.upstream_peer)")).toBe(true);
  });

  test("may be declared again", () => {
    const host = start(["upstream_peer.workload"]);
    host.addPlugin({ expressions: ["upstream_peer.workload"] });
    expect(results(host.request({ rootId: 2 }))).toEqual(["lone"]);
    expect(faults(host)).toEqual({});
  });
});
