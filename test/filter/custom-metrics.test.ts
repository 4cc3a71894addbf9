// `metrics` and `definitions`: Istio's ways to change its metrics and to add others. One case per rule; each request is also held
// against its observation.

import { describe, expect, test } from "vitest";
import { LABELS } from "../../filter/vocabulary/labels.ts";
import { HTTP_METRICS, MetricKind } from "../../filter/vocabulary/metrics.ts";
import {
  complaints,
  countOf,
  customLabelsOf,
  requestInbound,
  requestOutbound,
  startCustomInbound,
  startCustomOutbound,
} from "../host/customised.ts";
import { type Host, PLAIN_REQUEST, PLAIN_RESPONSE, type StreamOptions } from "../host/host.ts";
import {
  countedLabels,
  countedRequests,
  countedTotal,
  countedWith,
  exchangeHeaders,
  FROM_PRODUCTPAGE,
  faults,
  overflowLabels,
  PRODUCTPAGE,
} from "../host/mesh.ts";
import type { Json, JsonObject } from "../host/struct.ts";

const NAMES = HTTP_METRICS.map(({ name }) => name);
const [REQUESTS, DURATION, REQUEST_BYTES, RESPONSE_BYTES] = [
  "istio_requests_total",
  "istio_request_duration_milliseconds",
  "istio_request_bytes",
  "istio_response_bytes",
];

/** One request under these entries of `metrics`. */
function oneRequest(metrics: Json, customLabels: readonly string[] = [], options: StreamOptions = {}): Host {
  const host = startCustomInbound({ metrics }, customLabels);
  requestInbound(host, options);
  return host;
}

/** The value that an expression gives a new label. */
function valueGiven(expression: string, options: StreamOptions = {}): string | undefined {
  const host = oneRequest([{ dimensions: { custom: expression } }], ["custom"], options);
  expect(faults(host)).toEqual({});
  return countedLabels(host)["custom"];
}

function withHeader(name: string, value: string): StreamOptions {
  return { requestHeaders: [...FROM_PRODUCTPAGE.requestHeaders, [name, value]] };
}

function toPath(path: string): StreamOptions {
  return { requestHeaders: [...exchangeHeaders(PRODUCTPAGE), [":authority", "reviews"], [":path", path]] };
}

/** The metrics that have a label of this name. */
function carriers(host: Host, label: string): string[] {
  return NAMES.filter((name) => host.series(name).some((one) => (one.labels[label] ?? "") !== ""));
}

function recordedMetrics(host: Host): string[] {
  return NAMES.filter((name) => host.series(name).length > 0);
}

/** A metric's labels in the order in which they stand in its stat name. */
function namedLabels(host: Host, metric: string): string[] {
  const stat = host.stats.all().find(({ statName }) => statName.endsWith(`;.;${metric}`));
  return (stat?.statName.split(";.;").slice(0, -1) ?? []).map((tag) => tag.split("=.=")[0] ?? "");
}

describe("the name of an entry", () => {
  test.each(["requests_total", "istio_requests_total"])("%s is the metric to which it applies", (name) => {
    expect(carriers(oneRequest([{ name, dimensions: { tenant: "'red'" } }], ["tenant"]), "tenant")).toEqual([REQUESTS]);
  });

  test.each<[string, JsonObject]>([
    ["absent", {}],
    ["empty", { name: "" }],
  ])("%s: it applies to all metrics", (_, name) => {
    const host = oneRequest([{ ...name, dimensions: { tenant: "'red'" } }], ["tenant"]);
    expect(carriers(host, "tenant")).toEqual(NAMES);
  });

  test("is one of Istio's ten metrics, of which some are not for HTTP: no fault", () => {
    const names = ["tcp_connections_opened_total", "tcp_sent_bytes_total", "request_messages_total"];
    const host = oneRequest(names.map((name) => ({ name, dimensions: { tenant: "'red'" } })));
    expect(faults(host)).toEqual({});
    expect(carriers(host, "tenant")).toEqual([]);
  });

  test("is no metric: nothing happens to the others", () => {
    const host = oneRequest([{ name: "nothing_total", dimensions: { tenant: "'red'" }, drop: true }], ["tenant"]);
    expect(recordedMetrics(host)).toEqual(NAMES);
    expect(carriers(host, "tenant")).toEqual([]);
  });
});

describe("several entries", () => {
  test.each<[string, JsonObject[], string]>([
    ["a later dimension", [{ dimensions: { source_app: "'1'" } }, { dimensions: { source_app: "'2'" } }], "2"],
    [
      "a later dimension of one metric",
      [{ dimensions: { source_app: "'1'" } }, { name: "requests_total", dimensions: { source_app: "'2'" } }],
      "2",
    ],
    [
      "a later dimension of all",
      [{ name: "requests_total", dimensions: { source_app: "'1'" } }, { dimensions: { source_app: "'2'" } }],
      "2",
    ],
    ["a later removal", [{ dimensions: { source_app: "'1'" } }, { tags_to_remove: ["source_app"] }], ""],
    ["a dimension after the removal", [{ tags_to_remove: ["source_app"] }, { dimensions: { source_app: "'1'" } }], "1"],
  ])("%s wins", (_, metrics, expected) => {
    expect(countedLabels(oneRequest(metrics))["source_app"] ?? "").toBe(expected);
  });

  test("each add up label by label", () => {
    const host = oneRequest(
      [
        { dimensions: { tenant: "'red'", zone: "'a'" } },
        { dimensions: { zone: "'b'" } },
        { tags_to_remove: ["reporter"] },
      ],
      ["tenant", "zone"],
    );
    expect(customLabelsOf(host)).toEqual({ tenant: "red", zone: "b" });
    expect(carriers(host, "reporter")).toEqual([]);
  });

  test("for different metrics leave each its own", () => {
    const host = oneRequest(
      [
        { name: "requests_total", dimensions: { tenant: "'1'" } },
        { name: "request_bytes", dimensions: { tenant: "'2'" }, tags_to_remove: ["source_app"] },
      ],
      ["tenant"],
    );
    expect(NAMES.map((name) => host.series(name)[0]?.labels["tenant"] ?? "")).toEqual(["1", "", "2", ""]);
    expect(carriers(host, "source_app")).toEqual([REQUESTS, DURATION, RESPONSE_BYTES]);
  });
});

describe("Istio's own expansion of a Telemetry for all metrics", () => {
  test("ten entries with the same twenty dimensions", () => {
    const names = ["requests_total", "request_duration_milliseconds", "request_bytes", "response_bytes"];
    const others = [
      "request_messages_total",
      "response_messages_total",
      "tcp_sent_bytes_total",
      "tcp_received_bytes_total",
    ];
    const tcp = ["tcp_connections_opened_total", "tcp_connections_closed_total"];
    const labels = Array.from({ length: 20 }, (_, index) => `label_${index}_x`);
    const dimensions = Object.fromEntries(labels.map((label) => [label, `request.method + '${label}'`]));
    const entry = { dimensions, tags_to_remove: ["source_app"] };
    const host = oneRequest(
      [...names, ...others, ...tcp].map((name) => ({ name, ...entry })),
      labels,
    );
    expect(faults(host)).toEqual({});
    for (const name of NAMES) {
      expect(customLabelsOf(host, name)).toEqual(Object.fromEntries(labels.map((label) => [label, `GET${label}`])));
    }
  });
});

describe("dimensions", () => {
  test("a new label comes after the standard ones, alphabetically within its entry, in the order of the entries", () => {
    const host = oneRequest(
      [{ dimensions: { zeta: "'z'", alpha: "'a'" } }, { dimensions: { beta: "'b'" } }],
      ["alpha", "beta", "zeta"],
    );
    expect(namedLabels(host, REQUESTS as string)).toEqual([...LABELS, "alpha", "zeta", "beta"]);
  });

  test("a standard label is overridden in its place", () => {
    const host = oneRequest([{ dimensions: { source_app: "request.host" } }]);
    expect(countedLabels(host)).toMatchObject({ source_app: "reviews:9080", source_workload: "productpage-v1" });
    expect(namedLabels(host, REQUESTS as string)).toEqual(LABELS);
  });

  test.each(LABELS.map((label) => [label]))("the standard label %s can be overridden", (label) => {
    const host = oneRequest([{ dimensions: { [label]: "'custom'" } }]);
    expect(countedLabels(host)[label]).toBe("custom");
    expect(faults(host)).toEqual({});
  });

  test("a standard label that is removed in the same entry is overridden all the same", () => {
    const entry = { tags_to_remove: ["source_app"], dimensions: { source_app: "'custom'" } };
    expect(countedLabels(oneRequest([entry]))).toMatchObject({ source_app: "custom" });
  });

  test.each(["", "a-b", "a.b", "1a", "a b", "gr\u00f6\u00dfe", "a=.=b", "x".repeat(101)])(
    "the name %j is no label: complained of with its path, the rest holds",
    (label) => {
      const host = oneRequest([{ dimensions: { [label]: "'bad'", tenant: "'red'" } }], ["tenant"]);
      expect(customLabelsOf(host)).toEqual({ tenant: "red" });
      expect(complaints(host)).toEqual([expect.stringContaining(`metrics[0].dimensions.${label}`)]);
      expect(faults(host)).toEqual({ configuration: 1 });
    },
  );

  test("different values are different series, found again", () => {
    const host = startCustomInbound({ metrics: [{ dimensions: { tenant: "request.headers['x-t']" } }] }, ["tenant"]);
    for (let round = 0; round < 3; round++)
      for (const tenant of ["a", "b"]) requestInbound(host, withHeader("x-t", tenant));
    for (const tenant of ["a", "b"]) expect(countedWith(host, { tenant })).toBe(3);
    expect(countedRequests(host)).toHaveLength(2);
  });

  test("values that share all bytes but not their borders are different series", () => {
    const dimensions = { first: "request.headers['x-f']", second: "request.headers['x-s']" };
    const host = startCustomInbound({ metrics: [{ dimensions }] }, ["first", "second"]);
    for (const [first, second] of [
      ["ab", "c"],
      ["a", "bc"],
      ["abc", ""],
      ["", "abc"],
    ] as const) {
      requestInbound(host, { requestHeaders: [...PLAIN_REQUEST, ["x-f", first], ["x-s", second]] });
    }
    expect(countedRequests(host).map(({ labels }) => [labels["first"], labels["second"]])).toEqual([
      ["ab", "c"],
      ["a", "bc"],
      ["abc", ""],
      ["", "abc"],
    ]);
  });

  test("requests that differ only in a value that one metric carries are one series of the others", () => {
    const metrics = [{ name: "requests_total", dimensions: { tenant: "request.headers['x-t']" } }];
    const host = startCustomInbound({ metrics }, ["tenant"]);
    for (const tenant of ["a", "b", "a"]) requestInbound(host, withHeader("x-t", tenant));
    expect(countedRequests(host).map(({ value }) => value)).toEqual([2n, 1n]);
    expect(host.series(REQUEST_BYTES).map(({ samples }) => samples.length)).toEqual([3]);
  });

  test("5,000 values twice: each series counts 2, though no cache holds them all", () => {
    const metrics = [{ dimensions: { tenant: "request.headers['x-t']" } }, ...dropped(NAMES.slice(1))];
    const host = startCustomInbound({ metrics, max_label_sets: 100_000 }, ["tenant"]);
    for (let round = 0; round < 2; round++) {
      for (let index = 0; index < 5_000; index++)
        host.request({ ...FROM_PRODUCTPAGE, ...withHeader("x-t", `${index}`) });
    }
    const counts = countedRequests(host).map(({ value }) => value);
    expect([counts.length, ...new Set(counts)]).toEqual([5_000, 2n]);
  });
});

function dropped(names: readonly string[]): JsonObject[] {
  return names.map((name) => ({ name: name.replace("istio_", ""), drop: true }));
}

describe("a label whose name is the end of another's", () => {
  const red = { app: "'own'", version: "'9'", principal: "'p'" };

  test("a new label: both are cut out of the stat name, of all metrics", () => {
    const host = oneRequest([{ dimensions: red }], Object.keys(red));
    for (const name of NAMES) {
      const [one] = host.series(name);
      expect(one?.labels).toMatchObject({ app: "own", source_app: "productpage", version: "9", principal: "p" });
      expect(one?.labels).toMatchObject({ destination_app: "reviews", source_version: "v1" });
    }
  });

  test("two new labels, in either order of configuration", () => {
    for (const [first, second] of [
      ["id", "user_id"],
      ["user_id", "id"],
    ] as const) {
      const entries = [{ dimensions: { [first]: `'of ${first}'` } }, { dimensions: { [second]: `'of ${second}'` } }];
      const host = oneRequest(entries, ["id", "user_id"]);
      expect(customLabelsOf(host)).toEqual({ id: "of id", user_id: "of user_id" });
    }
  });

  test("of one metric only: the other metrics keep the longer label's value and their names", () => {
    const host = oneRequest([{ name: "requests_total", dimensions: { app: "'own'" } }], ["app"]);
    expect(recordedMetrics(host)).toEqual(NAMES);
    expect(countedLabels(host)).toMatchObject({ app: "own", source_app: "productpage" });
    for (const name of NAMES.slice(1)) {
      expect(host.series(name)[0]?.labels).toMatchObject({ source_app: "productpage", destination_app: "reviews" });
      expect(host.series(name)[0]?.labels["app"] ?? "").toBe("");
    }
  });

  test("under a condition: a request for which it does not hold keeps the longer label's value", () => {
    const metrics = [{ match: "request.path == '/tag'", dimensions: { app: "'own'" } }];
    const host = oneRequest(metrics, ["app"], toPath("/other"));
    expect(recordedMetrics(host)).toEqual(NAMES);
    expect(countedLabels(host)).toMatchObject({ source_app: "productpage", destination_app: "reviews" });
    expect(countedLabels(host)["app"] ?? "").toBe("");
  });

  test("whose expression does not parse: the longer label is left alone", () => {
    const host = oneRequest([{ dimensions: { app: "this is (none" } }], ["app"]);
    expect(countedLabels(host)).toMatchObject({ source_app: "productpage", destination_app: "reviews" });
  });

  test("of a custom metric", () => {
    const configuration = {
      metrics: [{ name: "mine", dimensions: { user_id: "'u'", id: "'i'" } }],
      definitions: [{ name: "mine", value: "1" }],
    };
    const host = startCustomInbound(configuration, ["user_id", "id"]);
    requestInbound(host);
    expect(customLabelsOf(host, "istio_mine")).toEqual({ user_id: "u", id: "i" });
  });
});

describe("tags_to_remove", () => {
  test.each(LABELS.map((label) => [label]))("takes the standard label %s off", (label) => {
    const host = oneRequest([{ tags_to_remove: [label] }]);
    expect(namedLabels(host, REQUESTS as string)).toEqual(LABELS.filter((one) => one !== label));
    expect(faults(host)).toEqual({});
  });

  test("takes all off", () => {
    const host = oneRequest([{ tags_to_remove: [...LABELS] }]);
    expect(countedRequests(host)).toMatchObject([{ labels: {}, value: 1n }]);
  });

  test("of one metric leaves the others as they are", () => {
    const host = oneRequest([{ name: "request_bytes", tags_to_remove: ["response_code", "source_app"] }]);
    expect(carriers(host, "source_app")).toEqual([REQUESTS, DURATION, RESPONSE_BYTES]);
  });

  test("leaves a new label where it is", () => {
    const host = oneRequest(
      [{ dimensions: { tenant: "'red'" } }, { tags_to_remove: ["tenant", "no_label"] }],
      ["tenant"],
    );
    expect(customLabelsOf(host)).toEqual({ tenant: "red" });
    expect(faults(host)).toEqual({});
  });

  test("leaves a custom metric's labels where they are", () => {
    const configuration = {
      metrics: [{ name: "mine", dimensions: { reporter: "'proxy'" } }, { tags_to_remove: ["reporter"] }],
      definitions: [{ name: "mine", value: "1" }],
    };
    const host = startCustomInbound(configuration);
    requestInbound(host);
    expect(host.series("istio_mine")).toMatchObject([{ labels: { reporter: "proxy" } }]);
    expect(carriers(host, "reporter")).toEqual([]);
  });

  test("adds requests up that differed in that label alone", () => {
    const host = startCustomInbound({ metrics: [{ tags_to_remove: ["response_code"] }] });
    for (const responseCode of [200, 404, 503]) requestInbound(host, { responseCode });
    expect(countedRequests(host).map(({ value }) => value)).toEqual([3n]);
  });
});

describe("drop", () => {
  test.each(NAMES.map((name) => [name]))("%s is not recorded, the others are", (name) => {
    const host = oneRequest(dropped([name]));
    expect(recordedMetrics(host)).toEqual(NAMES.filter((one) => one !== name));
  });

  test("of all four records nothing", () => {
    const host = oneRequest(dropped(NAMES));
    expect(recordedMetrics(host)).toEqual([]);
    expect(faults(host)).toEqual({});
  });

  test("without a name does nothing", () => {
    expect(recordedMetrics(oneRequest([{ drop: true }, { name: "", drop: true }]))).toEqual(NAMES);
  });

  test.each([["true"], [true]])("reads %j", (drop) => {
    expect(recordedMetrics(oneRequest([{ name: "requests_total", drop }]))).toEqual(NAMES.slice(1));
  });

  test.each([["false"], [false]])("reads %j", (drop) => {
    expect(recordedMetrics(oneRequest([{ name: "requests_total", drop }]))).toEqual(NAMES);
  });

  test("does not touch a custom metric", () => {
    const configuration = { metrics: [{ name: "mine", drop: true }], definitions: [{ name: "mine", value: "1" }] };
    const host = startCustomInbound(configuration);
    requestInbound(host);
    expect(countOf(host, "istio_mine")).toBe(1);
  });

  test("a metric that is dropped is measured again under another configuration of the VM", () => {
    const host = oneRequest(dropped(["request_bytes"]));
    requestInbound(host, { rootId: host.addPlugin({ direction: "inbound" }) });
    expect(host.series(REQUEST_BYTES)).toHaveLength(1);
  });
});

describe("an expression that does not parse", () => {
  test("of a standard label: the label is removed", () => {
    const host = oneRequest([{ dimensions: { source_app: "request.host ==" } }]);
    expect(namedLabels(host, REQUESTS as string)).toEqual(LABELS.filter((one) => one !== "source_app"));
  });

  test("of a standard label that an earlier entry overrode: the label is removed", () => {
    const host = oneRequest([{ dimensions: { source_app: "'1'" } }, { dimensions: { source_app: "1 +" } }]);
    expect(countedLabels(host)["source_app"] ?? "").toBe("");
  });

  test("of a new label: it is ignored", () => {
    const host = oneRequest([{ dimensions: { tenant: "request.host ==" } }], ["tenant"]);
    expect(customLabelsOf(host)).toEqual({});
    expect(recordedMetrics(host)).toEqual(NAMES);
  });

  test("of a new label that an earlier entry gave a value: that one stays", () => {
    const host = oneRequest([{ dimensions: { tenant: "'red'" } }, { dimensions: { tenant: "1 +" } }], ["tenant"]);
    expect(customLabelsOf(host)).toEqual({ tenant: "red" });
  });

  test("is logged with its path and counted once per configuration, and the rest holds", () => {
    const entries = [
      { dimensions: { tenant: "'red'" } },
      { dimensions: { a_bad: "(", source_app: "no such(", b: "'b'" } },
    ];
    const host = startCustomInbound({ metrics: entries }, ["tenant", "b"]);
    for (let index = 0; index < 5; index++) requestInbound(host);
    expect(customLabelsOf(host)).toEqual({ tenant: "red", b: "b" });
    for (const path of ["metrics[1].dimensions.a_bad", "metrics[1].dimensions.source_app"]) {
      expect(complaints(host).filter((text) => text.includes(path))).toHaveLength(1);
    }
    expect(faults(host)).toEqual({ configuration: 2 });
    host.addPlugin({ metrics: entries });
    expect(faults(host)).toEqual({ configuration: 4 });
  });

  test.each([
    "",
    " ",
    "nothing(",
    "1 2",
    "'open",
    "a..b",
    "[1",
    `${"x".repeat(10_000)}(`,
    `${"(".repeat(5_000)}1${")".repeat(5_000)}`,
  ])("%#: traffic goes on and it is counted", (source) => {
    const host = oneRequest([{ dimensions: { broken: source, tenant: "'red'" } }], ["tenant"]);
    expect(customLabelsOf(host)).toEqual({ tenant: "red" });
    expect(faults(host)).toEqual({ configuration: 1 });
  });
});

describe("an expression that fails to evaluate", () => {
  test.each([
    ["a header that is not there", "request.headers['x-none']"],
    ["a root that does not exist", "nothing.at.all"],
    ["types that do not fit", "request.path + 1"],
    ["a division by zero", "1 / (response.code - response.code)"],
    ["a map", "request.headers"],
  ])("%s: unknown", (_, expression) => {
    const host = oneRequest([{ dimensions: { custom: expression, tenant: "'red'" } }], ["custom", "tenant"]);
    expect(customLabelsOf(host)).toEqual({ custom: "unknown", tenant: "red" });
    expect(recordedMetrics(host)).toEqual(NAMES);
  });

  test("of a standard label: unknown, not what it read before", () => {
    const host = oneRequest([{ dimensions: { source_app: "request.headers['x-none']" } }]);
    expect(countedLabels(host)["source_app"]).toBe("unknown");
  });

  test("for one request does not stay for the next", () => {
    const host = startCustomInbound({ metrics: [{ dimensions: { tenant: "request.headers['x-t']" } }] }, ["tenant"]);
    for (const options of [withHeader("x-t", "a"), {}, withHeader("x-t", "a")]) requestInbound(host, options);
    expect(countedWith(host, { tenant: "a" })).toBe(2);
    expect(countedWith(host, { tenant: "unknown" })).toBe(1);
  });

  test("leaves the others their own values, in whichever order they stand", () => {
    const dimensions = {
      a: "'1'",
      b: "request.headers['x-none']",
      c: "response.code",
      d: "request.headers['y']",
      e: "true",
    };
    expect(customLabelsOf(oneRequest([{ dimensions }], Object.keys(dimensions)))).toEqual({
      a: "1",
      b: "unknown",
      c: "200",
      d: "unknown",
      e: "true",
    });
  });
});

describe("the text of a value", () => {
  test.each([
    ["a string", "request.host", "reviews:9080"],
    ["a string of 8 bytes, as many as a number has", "'12345678'", "12345678"],
    ["a string of 1 byte, as many as a bool has", "'1'", "1"],
    ["an int", "response.code", "200"],
    ["0", "0", "0"],
    ["an int below 0", "0 - 5", "-5"],
    ["the least int", "-9223372036854775807 - 1", "-9223372036854775808"],
    ["an unsigned int", "7u", "7"],
    ["true", "request.method == 'GET'", "true"],
    ["false", "request.method == 'PUT'", "false"],
    ["the empty string", "''", ""],
    ["a string or an int: a string", "request.method == 'GET' ? 'text' : 1", "text"],
    ["a string or an int: an int", "request.method == 'PUT' ? 'text' : 1", "1"],
  ])("%s", (_, expression, expected) => {
    expect(valueGiven(expression) ?? "").toBe(expected);
  });

  test.each([
    ["a tag's separators", "a;.;b=.=c", "a;_;b=_=c"],
    ["a separator's beginning at the end", "a;.", "a;"],
    ["trailing dots", "example.com..", "example.com"],
    ["control characters", "a\u0001\u001f\u007fb", "a___b"],
    ["a tab", "a\tb", "a_b"],
  ])("%s: cleaned", (_, value, expected) => {
    expect(valueGiven("request.headers['x-v']", withHeader("x-v", value))).toBe(expected);
  });

  test("line breaks and NUL in a literal: cleaned", () => {
    expect(valueGiven("'a\\nb\\r\\x00c'")).toBe("a_b__c");
  });

  test.each([255, 256, 1_000, 60_000])("%d bytes: the first 255 at most", (length) => {
    const value = "v".repeat(length);
    expect(valueGiven("request.headers['x-v']", withHeader("x-v", value))).toBe(value.slice(0, 255));
  });

  test("1,000 bytes of characters of 3 bytes: cut between two of them", () => {
    const wire = Buffer.from("\u65e5".repeat(400), "utf8").toString("latin1");
    expect(valueGiven("request.headers['x-v']", withHeader("x-v", wire))).toBe("\u65e5".repeat(85));
  });

  test("1,000 bytes of characters of 4 bytes: cut between two of them, without a remainder", () => {
    const wire = Buffer.from("\u{1f600}".repeat(250), "utf8").toString("latin1");
    expect(valueGiven("request.headers['x-v']", withHeader("x-v", wire))).toBe("\u{1f600}".repeat(63));
  });

  test("forty long values: requests that differ in the last of them are told apart", () => {
    const labels = Array.from({ length: 40 }, (_, index) => `label_${index}_x`);
    const entries = [labels.slice(0, 20), labels.slice(20)].map((some) => ({
      dimensions: Object.fromEntries(some.map((label) => [label, `request.headers['x-v'] + '${label}'`])),
    }));
    const last = { dimensions: { zz_last: "request.headers['x-t']" } };
    const host = startCustomInbound({ metrics: [...entries, last] }, [...labels, "zz_last"]);
    for (const tenant of ["a", "b", "a"]) {
      const requestHeaders = [...FROM_PRODUCTPAGE.requestHeaders, ["x-v", "v".repeat(240)], ["x-t", tenant]] as const;
      requestInbound(host, { requestHeaders });
    }
    expect(countedRequests(host).map(({ labels: one, value }) => [one["zz_last"], one["label_39_x"], value])).toEqual([
      ["a", `${"v".repeat(240)}label_39_x`, 2n],
      ["b", `${"v".repeat(240)}label_39_x`, 1n],
    ]);
    expect(faults(host)).toEqual({});
  });

  test("values that are the same once cleaned are one series and one label set", () => {
    const metrics = [{ dimensions: { tenant: "request.headers['x-t']" } }];
    const host = startCustomInbound({ metrics, max_label_sets: 1 }, ["tenant"]);
    for (const tenant of ["a", "a.", "a..", "a"]) requestInbound(host, withHeader("x-t", tenant));
    expect(countedRequests(host).map(({ value }) => value)).toEqual([4n]);
    expect(faults(host)).toEqual({});
  });

  test("two long values side by side", () => {
    const dimensions = { first: "request.headers['x-v']", second: "request.headers['x-v'] + '!'" };
    const host = oneRequest([{ dimensions }], ["first", "second"], withHeader("x-v", "v".repeat(1_000)));
    expect(customLabelsOf(host)).toEqual({ first: "v".repeat(255), second: "v".repeat(255) });
  });
});

describe("match", () => {
  const HEALTH = "request.path == '/health'";

  test("an entry drops health checks, and nothing else", () => {
    const metrics = NAMES.map((name) => ({ name: name.replace("istio_", ""), match: HEALTH, drop: true }));
    const host = startCustomInbound({ metrics });
    for (const path of ["/health", "/reviews/0", "/health", "/reviews/1"]) requestInbound(host, toPath(path));
    expect(countedTotal(host)).toBe(2);
    for (const name of NAMES.slice(1)) expect(host.series(name)[0]?.samples).toHaveLength(2);
  });

  test("one metric is dropped under it, the others are not", () => {
    const host = startCustomInbound({ metrics: [{ name: "request_bytes", match: HEALTH, drop: true }] });
    for (const path of ["/health", "/reviews/0"]) requestInbound(host, toPath(path));
    expect(countedTotal(host)).toBe(2);
    expect(host.series(REQUEST_BYTES)[0]?.samples).toHaveLength(1);
  });

  test("a new label is there under it alone", () => {
    const host = startCustomInbound({ metrics: [{ match: HEALTH, dimensions: { kind: "'health'" } }] }, ["kind"]);
    for (const path of ["/health", "/reviews/0"]) requestInbound(host, toPath(path));
    expect(countedRequests(host).map(({ labels }) => labels["kind"] ?? "")).toEqual(["health", ""]);
  });

  test("a standard label is overridden and removed under it alone", () => {
    const entry = { match: HEALTH, dimensions: { destination_service: "'health'" }, tags_to_remove: ["source_app"] };
    const host = startCustomInbound({ metrics: [entry] });
    for (const path of ["/health", "/reviews/0"]) requestInbound(host, toPath(path));
    expect(countedWith(host, { destination_service: "health" })).toBe(1);
    expect(
      countedWith(host, { destination_service: "reviews.default.svc.cluster.local", source_app: "productpage" }),
    ).toBe(1);
    expect(countedRequests(host).map(({ labels }) => labels["source_app"] ?? "")).toEqual(["", "productpage"]);
  });

  test("reads what is known at the end: the response", () => {
    const metrics = [{ match: "response.code >= 500", dimensions: { outcome: "'broken'" } }];
    const host = startCustomInbound({ metrics }, ["outcome"]);
    for (const responseCode of [200, 503]) requestInbound(host, { responseCode });
    expect(countedWith(host, { outcome: "broken", response_code: "503" })).toBe(1);
    expect(countedWith(host, { outcome: "broken" })).toBe(1);
  });

  test("several at once: each decides for itself, and later entries win", () => {
    const metrics = [
      { match: "request.headers['a'] == '1'", dimensions: { a: "'yes'", last: "'a'" } },
      { match: "request.headers['b'] == '1'", dimensions: { b: "'yes'", last: "'b'" } },
      { match: "request.headers['c'] == '1'", dimensions: { c: "'yes'", last: "'c'" } },
    ];
    const host = startCustomInbound({ metrics }, ["a", "b", "c", "last"]);
    const bits = (index: number) => ["a", "b", "c"].map((name, bit) => [name, `${(index >> bit) & 1}`] as const);
    for (let round = 0; round < 2; round++) {
      for (let index = 0; index < 8; index++) {
        requestInbound(host, { requestHeaders: [...FROM_PRODUCTPAGE.requestHeaders, ...bits(index)] });
      }
    }
    const seen = countedRequests(host).map(({ labels, value }) => {
      const flags = ["a", "b", "c"].map((name) => (labels[name] === "yes" ? name : "")).join("");
      return [flags, labels["last"] ?? "", value];
    });
    expect(seen).toEqual(["", "a", "b", "ab", "c", "ac", "bc", "abc"].map((flags) => [flags, flags.slice(-1), 2n]));
  });

  test("nine at once, all 512 combinations: each request is counted as what it is, twice", () => {
    const names = [..."abcdefghi"];
    const metrics = [
      ...names.map((name) => ({
        match: `request.headers['x'].contains('${name}')`,
        dimensions: { [name + name]: "'y'" },
      })),
      ...dropped(NAMES.slice(1)),
    ];
    const host = startCustomInbound(
      { metrics, max_label_sets: 512 },
      names.map((name) => name + name),
    );
    for (let round = 0; round < 2; round++) {
      for (let index = 0; index < 512; index++) {
        const text = names.filter((_, bit) => (index >> bit) % 2 === 1).join("");
        host.request({ ...FROM_PRODUCTPAGE, ...withHeader("x", `-${text}`) });
      }
    }
    expect(faults(host)).toEqual({});
    const counts = countedRequests(host).map(({ value }) => value);
    expect([counts.length, ...new Set(counts)]).toEqual([512, 2n]);
  });

  test("one condition in many entries: the last one wins", () => {
    const metrics = Array.from({ length: 32 }, (_, index) => ({
      match: HEALTH,
      dimensions: { last: `'${index}'` },
    }));
    const host = startCustomInbound({ metrics }, ["last"]);
    requestInbound(host, toPath("/health"));
    expect(customLabelsOf(host)).toEqual({ last: "31" });
    expect(faults(host)).toEqual({});
  });

  test.each<[string, Json]>([
    ["does not parse", "request.path =="],
    ["is of another type", 1],
    ["is an object", {}],
  ])("a condition that %s: the entry never applies, complained of with its path, the rest holds", (_, match) => {
    const metrics = [
      { match, name: "requests_total", drop: true, dimensions: { bad: "'x'" } },
      { match: HEALTH, dimensions: { kind: "'health'" } },
    ];
    const host = startCustomInbound({ metrics }, ["kind", "bad"]);
    requestInbound(host, toPath("/health"));
    expect(customLabelsOf(host)).toEqual({ kind: "health" });
    expect(complaints(host)).toEqual([expect.stringContaining("metrics[0].match")]);
    expect(faults(host)).toEqual({ configuration: 1 });
  });

  test.each([
    ["fails to evaluate", "request.headers['x-none'] == '1'", { expression: 3 }],
    ["is no bool", "request.path", {}],
    ["is the text true", "'true'", {}],
  ])("a condition that %s does not hold", (_, match, expected) => {
    const host = startCustomInbound({ metrics: [{ match, name: "requests_total", drop: true }] });
    for (let index = 0; index < 3; index++) requestInbound(host);
    expect(countedTotal(host)).toBe(3);
    expect(faults(host)).toEqual(expected);
  });

  test("a condition that fails leaves the others and the values alone", () => {
    const metrics = [
      { match: "request.headers['x-none'] == '1'", dimensions: { bad: "'x'" } },
      { match: "request.method == 'GET'", dimensions: { method: "request.method" } },
    ];
    const host = startCustomInbound({ metrics }, ["bad", "method"]);
    requestInbound(host);
    expect(customLabelsOf(host)).toEqual({ method: "GET" });
    expect(faults(host)).toEqual({ expression: 1 });
  });

  test("without a name and with drop does nothing", () => {
    expect(recordedMetrics(oneRequest([{ match: "true", drop: true }]))).toEqual(NAMES);
  });

  test("a custom metric gets its labels under it", () => {
    const configuration = {
      metrics: [{ name: "mine", match: HEALTH, dimensions: { kind: "'health'" } }],
      definitions: [{ name: "mine", value: "1" }],
    };
    const host = startCustomInbound(configuration, ["kind"]);
    for (const path of ["/health", "/reviews/0"]) requestInbound(host, toPath(path));
    expect(host.series("istio_mine").map(({ labels }) => labels["kind"] ?? "")).toEqual(["health", ""]);
  });
});

describe("definitions", () => {
  function measured(definition: JsonObject, requests: readonly StreamOptions[], metrics: Json = []): Host {
    const host = startCustomInbound({ definitions: [{ name: "mine", ...definition }], metrics }, ["tenant"]);
    for (const options of requests) requestInbound(host, options);
    return host;
  }
  const CODES = [{ responseCode: 200 }, { responseCode: 503 }, { responseCode: 404 }];

  test.each<[string, JsonObject]>([
    ["COUNTER", { type: "COUNTER" }],
    ["no type", {}],
  ])("%s adds up", (_, type) => {
    const host = measured({ ...type, value: "response.code" }, CODES);
    expect(host.series("istio_mine")).toMatchObject([{ kind: MetricKind.Counter, value: 1_107n, labels: {} }]);
  });

  test("GAUGE is set", () => {
    const host = measured({ type: "GAUGE", value: "response.code" }, CODES);
    expect(host.series("istio_mine")).toMatchObject([{ kind: MetricKind.Gauge, value: 404n }]);
  });

  test("HISTOGRAM is given each value", () => {
    const host = measured({ type: "HISTOGRAM", value: "response.code" }, CODES);
    expect(host.series("istio_mine")).toMatchObject([{ kind: MetricKind.Histogram, samples: [200n, 503n, 404n] }]);
  });

  test.each([
    ["an unsigned int", "3u", 3n],
    ["an int", "size(request.method)", 3n],
    ["more than 32 bits", "5000000000", 5_000_000_000n],
    ["an int below 0", "0 - 5", 0n],
    ["a bool", "true", 0n],
    ["a string of words", "request.host", 0n],
    ["a map", "request.headers", 0n],
    ["what fails to evaluate", "request.headers['x-none']", 0n],
    ["what fails as a number", "int(request.host)", 0n],
  ])("%s counts %s as %s", (_, value, expected) => {
    expect(measured({ value }, [{}]).series("istio_mine")).toMatchObject([{ value: expected }]);
  });

  test("a histogram of what is no number is given 0", () => {
    const host = measured({ type: "HISTOGRAM", value: "request.headers['x-none']" }, [{}]);
    expect(host.series("istio_mine")).toMatchObject([{ samples: [0n] }]);
  });

  test("a metric carries the labels of its own and of nameless entries, and no others", () => {
    const metrics = [
      { dimensions: { tenant: "'red'" } },
      { name: "mine", dimensions: { reporter: "'proxy'" } },
      { name: "requests_total", dimensions: { source_app: "'x'" } },
    ];
    const host = measured({ value: "1" }, [{}], metrics);
    expect(host.series("istio_mine").map(({ labels }) => labels)).toEqual([{ tenant: "red", reporter: "proxy" }]);
    expect(countedLabels(host)).toMatchObject({ tenant: "red", reporter: "destination", source_app: "x" });
  });

  test("a metric is recorded though all standard ones are dropped", () => {
    const host = measured({ value: "1" }, [{}, {}], dropped(NAMES));
    expect(recordedMetrics(host)).toEqual([]);
    expect(countOf(host, "istio_mine")).toBe(2);
  });

  test("one value per label set", () => {
    const metrics = [{ name: "mine", dimensions: { tenant: "request.headers['x-t']" } }];
    const requests = ["a", "b", "a"].map((tenant) => withHeader("x-t", tenant));
    const host = measured({ value: "1" }, requests, metrics);
    expect(host.series("istio_mine").map(({ labels, value }) => [labels["tenant"], value])).toEqual([
      ["a", 2n],
      ["b", 1n],
    ]);
    expect(countedRequests(host)).toHaveLength(1);
  });

  test.each([...NAMES, "istio_request_messages_total", "istio_response_messages_total", "istio_tcp_sent_bytes_total"])(
    "%s is a standard metric and not defined again",
    (metric) => {
      const name = metric.replace("istio_", "");
      const definitions = [
        { name, value: "7" },
        { name: "mine", value: "1" },
      ];
      const host = startCustomInbound({ definitions });
      requestInbound(host);
      expect(countedTotal(host)).toBe(1);
      expect(countOf(host, "istio_mine")).toBe(1);
      expect(complaints(host)).toEqual([expect.stringContaining("definitions[0]")]);
      expect(faults(host)).toEqual({ configuration: 1 });
    },
  );

  test("a metric whose value does not parse is ignored, complained of with its path; the rest holds", () => {
    const definitions = [
      { name: "bad", value: "1 +" },
      { name: "mine", value: "1" },
    ];
    const host = startCustomInbound({ definitions });
    requestInbound(host);
    expect(host.series("istio_bad")).toEqual([]);
    expect(countOf(host, "istio_mine")).toBe(1);
    expect(complaints(host)).toEqual([expect.stringContaining("definitions[0].value")]);
    expect(faults(host)).toEqual({ configuration: 1 });
  });

  test("it is recorded once for a request that nobody answered", () => {
    expect(countOf(measured({ value: "1" }, [{ responseCode: null, durationNs: null }]), "istio_mine")).toBe(1);
  });
});

describe("expressions as Istio's users write them", () => {
  const peer: [string, string][] = [
    ["filter_state.upstream_peer.workload", "reviews-v2"],
    ["filter_state.upstream_peer.namespace", "default"],
    ["filter_state.upstream_peer.service", "reviews"],
    ["filter_state.upstream_peer.revision", "v2"],
    ["filter_state.upstream_peer.app", "reviews"],
    ["filter_state.upstream_peer.version", "v2"],
    ["filter_state.upstream_peer.cluster", "Kubernetes"],
    ["filter_state.upstream_peer.name", "reviews-v2-7d4f8c"],
    ["filter_state.upstream_peer.type", "deployment"],
    ["upstream_peer.workload", "reviews-v2"],
    ["upstream_peer.labels['app'].value", "reviews"],
    ["'of ' + filter_state.upstream_peer.workload", "of reviews-v2"],
    ["node.metadata['NAME']", "productpage-v1-7d4f8c"],
    ["node.metadata.NAMESPACE", "default"],
    ["node.id", PRODUCTPAGE.id],
    ["cluster_name", "outbound|9080||reviews.default.svc.cluster.local"],
    ["route_name", "default"],
    ["string(listener_direction)", "2"],
    ["'upstream_peer.workload'", "upstream_peer.workload"],
  ];

  test.each(peer)("outbound: %s is %s", (expression, expected) => {
    const host = startCustomOutbound({ metrics: [{ dimensions: { custom: expression } }] }, ["custom"]);
    for (let index = 0; index < 2; index++) requestOutbound(host);
    expect(customLabelsOf(host)).toEqual({ custom: expected });
    expect(faults(host)).toEqual({});
  });

  test.each([
    ["filter_state.downstream_peer.workload", "productpage-v1"],
    ["downstream_peer.labels['app'].value", "productpage"],
    ["filter_state.downstream_peer.labels['version']", "v1"],
    ["node.metadata['NAME']", "reviews-v2-7d4f8c"],
    ["cluster_name", "inbound|9080||"],
    ["filter_state.upstream_peer.workload", "unknown"],
  ])("inbound: %s is %s", (expression, expected) => {
    expect(valueGiven(expression)).toBe(expected);
  });

  test("of a peer that sent nothing: unknown", () => {
    const host = startCustomOutbound({ metrics: [{ dimensions: { custom: "filter_state.upstream_peer.workload" } }] }, [
      "custom",
    ]);
    requestOutbound(host, { responseHeaders: PLAIN_RESPONSE });
    expect(customLabelsOf(host)).toEqual({ custom: "unknown" });
  });

  test("of different peers: each its own", () => {
    const host = startCustomInbound({ metrics: [{ dimensions: { custom: "filter_state.downstream_peer.name" } }] }, [
      "custom",
    ]);
    for (const name of ["a", "b", "a"]) {
      const metadata = { NAME: name, NAMESPACE: "default", CLUSTER_ID: "c", LABELS: {} };
      const node = { ...PRODUCTPAGE, id: `sidecar~::1~${name}.default~x` };
      requestInbound(host, { requestHeaders: [...PLAIN_REQUEST, ...exchangeHeaders(node, metadata)] });
    }
    expect(countedRequests(host).map(({ labels, value }) => [labels["custom"], value])).toEqual([
      ["a", 2n],
      ["b", 1n],
    ]);
  });
});

describe("what a request costs", () => {
  const configuration = {
    metrics: [
      { dimensions: { host: "request.host", code: "response.code", peer: "filter_state.downstream_peer.workload" } },
      { match: "request.path == '/health'", name: "requests_total", drop: true },
      { match: "response.code >= 500", dimensions: { broken: "'yes'" } },
      { name: "mine", dimensions: { operation: "istio_operationId" } },
    ],
    definitions: [{ name: "mine", value: "response.code" }],
    classification: {
      attributes: [
        {
          output_attribute: "istio_operationId",
          match: [{ condition: "request.path == '/a'", value: "A" }, { value: "Other" }],
        },
      ],
    },
  };

  test("one evaluation for dimensions, conditions, custom metrics and classification together", () => {
    const host = startCustomInbound(configuration);
    host.request(FROM_PRODUCTPAGE);
    host.calls.clear();
    host.request(FROM_PRODUCTPAGE);
    expect(host.calls.get("proxy_call_foreign_function")).toBe(1);
    expect(host.calls.get("proxy_define_metric")).toBeUndefined();
    expect(host.calls.get("proxy_log")).toBeUndefined();
  });

  test("one again after a request for which one failed", () => {
    const host = startCustomInbound({
      metrics: [{ dimensions: { tenant: "request.headers['x-t']", code: "response.code" } }],
    });
    host.request(FROM_PRODUCTPAGE);
    host.request({ ...FROM_PRODUCTPAGE, ...withHeader("x-t", "a") });
    host.calls.clear();
    host.request({ ...FROM_PRODUCTPAGE, ...withHeader("x-t", "a") });
    expect(host.calls.get("proxy_call_foreign_function")).toBe(1);
  });

  test("none when nothing is an expression", () => {
    const host = startCustomInbound({ metrics: [{ tags_to_remove: ["source_app"] }, ...dropped(["request_bytes"])] });
    host.request(FROM_PRODUCTPAGE);
    host.calls.clear();
    host.request(FROM_PRODUCTPAGE);
    expect(host.calls.get("proxy_call_foreign_function")).toBeUndefined();
  });
});

describe("max_label_sets", () => {
  const TENANT = { dimensions: { tenant: "request.headers['x-t']" } };

  function requestTenants(host: Host, tenants: readonly string[], rootId?: number): void {
    const root = rootId === undefined ? {} : { rootId };
    for (const tenant of tenants) requestInbound(host, { ...withHeader("x-t", tenant), ...root });
  }

  test("values of new labels are label sets; the overflow reads other in the new labels, too", () => {
    const host = startCustomInbound({ metrics: [TENANT], max_label_sets: 2 }, ["tenant"]);
    requestTenants(host, ["a", "b", "c", "d", "a", "c"]);
    expect(countedWith(host, { ...overflowLabels("destination"), tenant: "other" })).toBe(3);
    expect(countedRequests(host).map(({ value }) => value)).toEqual([2n, 1n, 3n]);
    expect(faults(host)).toEqual({ label_sets_full: 3 });
  });

  test("a metric that is dropped is dropped in the overflow, too", () => {
    const host = startCustomInbound({ metrics: [TENANT, ...dropped(["request_bytes"])], max_label_sets: 1 }, [
      "tenant",
    ]);
    requestTenants(host, ["a", "b", "c"]);
    expect(countedWith(host, { tenant: "other" })).toBe(2);
    expect(host.series(REQUEST_BYTES)).toEqual([]);
  });

  test("a metric that is dropped under a condition is so in the overflow", () => {
    const drop = { match: "request.headers['x-t'] == 'c'", name: "requests_total", drop: true };
    const host = startCustomInbound({ metrics: [TENANT, drop], max_label_sets: 1 }, ["tenant"]);
    requestTenants(host, ["a", "b", "c", "d"]);
    expect(countedWith(host, { tenant: "other" })).toBe(2);
  });

  test("a label that is removed is removed in the overflow, too", () => {
    const host = startCustomInbound({ metrics: [TENANT, { tags_to_remove: ["source_app"] }], max_label_sets: 1 }, [
      "tenant",
    ]);
    requestTenants(host, ["a", "b"]);
    expect(carriers(host, "source_app")).toEqual([]);
    expect(countedWith(host, { tenant: "other", source_workload: "other" })).toBe(1);
  });

  test("a custom metric goes on in the overflow", () => {
    const configuration = { metrics: [TENANT], definitions: [{ name: "mine", value: "1" }], max_label_sets: 1 };
    const host = startCustomInbound(configuration, ["tenant"]);
    requestTenants(host, ["a", "b", "c"]);
    expect(host.series("istio_mine").map(({ labels, value }) => [labels["tenant"], value])).toEqual([
      ["a", 1n],
      ["other", 2n],
    ]);
  });

  test("labels that all metrics lack do not tell label sets apart", () => {
    const metrics = [{ tags_to_remove: ["response_code", "response_flags"] }];
    const host = startCustomInbound({ metrics, max_label_sets: 1 });
    for (const responseCode of [200, 404, 503]) requestInbound(host, { responseCode });
    expect(countedRequests(host).map(({ value }) => value)).toEqual([3n]);
    expect(faults(host)).toEqual({});
  });

  test("a standard label that is overridden by a constant does not tell label sets apart", () => {
    const host = startCustomInbound({ metrics: [{ dimensions: { response_code: "'any'" } }], max_label_sets: 1 });
    for (const responseCode of [200, 404, 503]) requestInbound(host, { responseCode });
    expect(faults(host)).toEqual({});
  });

  const LOADED = { direction: "inbound", disable_host_header_fallback: true, metrics: [TENANT], max_label_sets: 2 };

  test("the same plugin that is configured again does not count its label sets again", () => {
    const host = startCustomInbound(LOADED, ["tenant"]);
    for (let round = 0; round < 3; round++) {
      requestTenants(host, ["a", "b"]);
      host.configure(1, LOADED);
    }
    expect(faults(host)).toEqual({});
    expect(countedRequests(host).map(({ value }) => value)).toEqual([3n, 3n]);
    requestTenants(host, ["c"]);
    expect(faults(host)).toEqual({ label_sets_full: 1 });
  });

  test("a new plugin of the VM with the same configuration does not count its label sets again", () => {
    const host = startCustomInbound(LOADED, ["tenant"]);
    requestTenants(host, ["a", "b"]);
    for (let round = 0; round < 3; round++) requestTenants(host, ["a", "b"], host.addPlugin(LOADED));
    expect(faults(host)).toEqual({});
    expect(countedRequests(host).map(({ value }) => value)).toEqual([4n, 4n]);
  });

  test("a configuration that is loaded again keeps no expression of the one before", () => {
    const host = startCustomInbound(LOADED, ["tenant"]);
    const before = host.foreign.expressionCount(1);
    for (let round = 0; round < 3; round++) host.configure(1, LOADED);
    expect(host.foreign.expressionCount(1)).toBe(before);
    host.configure(1, { direction: "inbound" });
    expect(host.foreign.expressionCount(1)).toBe(0);
  });

  test("two plugins of one VM with different dimensions keep them apart", () => {
    const host = startCustomInbound({ metrics: [{ dimensions: { tenant: "'1'" } }] }, ["tenant", "zone"]);
    const rootId = host.addPlugin({ ...LOADED, metrics: [{ dimensions: { zone: "'2'" } }] });
    for (let round = 0; round < 2; round++) {
      requestInbound(host);
      requestInbound(host, { rootId });
    }
    const custom = countedRequests(host).map(({ labels, value }) => [
      labels["tenant"] ?? "",
      labels["zone"] ?? "",
      value,
    ]);
    expect(custom).toEqual([
      ["1", "", 2n],
      ["", "2", 2n],
    ]);
  });

  test("a custom metric that changes its type or its value in a new configuration", () => {
    // Under another type it is another metric to Envoy, which keeps the old one: each takes room.
    const configuration = { ...LOADED, max_label_sets: 3, metrics: [], definitions: [{ name: "mine", value: "7" }] };
    const host = startCustomInbound(configuration);
    requestInbound(host);
    host.configure(1, { ...configuration, definitions: [{ name: "mine", value: "5", type: "GAUGE" }] });
    requestInbound(host);
    host.configure(1, { ...configuration, definitions: [{ name: "mine", value: "3", type: "HISTOGRAM" }] });
    requestInbound(host);
    expect(host.series("istio_mine").map(({ kind, value, samples }) => [kind, value, samples])).toEqual([
      [MetricKind.Counter, 7n, []],
      [MetricKind.Gauge, 5n, []],
      [MetricKind.Histogram, 0n, [3n]],
    ]);
    expect(faults(host)).toEqual({});
  });

  test("a request in flight while the configuration changes is counted under the new one", () => {
    const host = startCustomInbound(LOADED, ["tenant", "zone"]);
    const stream = host.stream({ ...FROM_PRODUCTPAGE, ...withHeader("x-t", "a") }).sendRequestHeaders();
    host.configure(1, { ...LOADED, metrics: [{ dimensions: { zone: "'new'" } }] });
    stream.sendResponseHeaders().log();
    expect(customLabelsOf(host)).toEqual({ zone: "new" });
    expect(faults(host)).toEqual({});
  });

  test("a configuration that changes takes effect with the next request", () => {
    const host = startCustomInbound({ metrics: [{ dimensions: { tenant: "'old'" } }] }, ["tenant"]);
    requestInbound(host);
    host.configure(1, { ...LOADED, metrics: [{ dimensions: { tenant: "'new'" } }] });
    requestInbound(host);
    expect(countedRequests(host).map(({ labels }) => labels["tenant"])).toEqual(["old", "new"]);
  });
});

describe("too many", () => {
  test.each<[string, JsonObject, string]>([
    [
      "entries",
      { metrics: Array.from({ length: 257 }, () => ({ tags_to_remove: ["source_version"] })) },
      "metrics[256]",
    ],
    [
      "dimensions of one entry",
      { metrics: [{}, { dimensions: Object.fromEntries(numbered(33).map((index) => [`label_${index}`, "'x'"])) }] },
      "metrics[1].dimensions",
    ],
    [
      "conditions",
      {
        metrics: numbered(33).map((index) => ({ match: `response.code == ${index}`, dimensions: { limited: "'x'" } })),
      },
      "metrics[32].match",
    ],
    [
      "definitions",
      { definitions: numbered(33).map((index) => ({ name: `mine_${index}`, value: "1" })) },
      "definitions[32]",
    ],
    [
      "attributes",
      {
        classification: {
          attributes: numbered(17).map((index) => ({ output_attribute: `a_${index}`, match: [{ value: "v" }] })),
        },
      },
      "classification.attributes[16]",
    ],
    [
      "conditions of one attribute",
      {
        classification: {
          attributes: [{ output_attribute: "a", match: numbered(65).map((index) => ({ value: `${index}` })) }],
        },
      },
      "classification.attributes[0].match[64]",
    ],
  ])("%s: complained of with the path, and what is not beyond holds", (_, configuration, path) => {
    const metrics = [...((configuration["metrics"] as JsonObject[] | undefined) ?? [])];
    metrics[0] = {
      ...metrics[0],
      tags_to_remove: ["source_app"],
      dimensions: { ...(metrics[0]?.["dimensions"] as JsonObject), tenant: "'red'" },
    };
    const host = startCustomInbound({ ...configuration, metrics }, ["tenant", "limited"]);
    requestInbound(host, { responseCode: 0 });
    expect(countedRequests(host)).toMatchObject([{ labels: { tenant: "red" }, value: 1n }]);
    expect(carriers(host, "source_app")).toEqual([]);
    expect(complaints(host).filter((text) => text.includes(path)).length).toBeGreaterThan(0);
    expect(Object.keys(faults(host))).toEqual(["configuration"]);
  });

  test("expressions in all: complained of, and traffic goes on", () => {
    const metrics = numbered(40).map((entry) => ({
      dimensions: Object.fromEntries(numbered(30).map((index) => [`label_${entry}_${index}_x`, `'${entry} ${index}'`])),
    }));
    const host = startCustomInbound(
      { metrics },
      metrics.flatMap(({ dimensions }) => Object.keys(dimensions)),
    );
    host.request(FROM_PRODUCTPAGE);
    expect(countedRequests(host)[0]?.labels).toMatchObject({ label_0_0_x: "0 0", reporter: "destination" });
    expect(complaints(host).length).toBeGreaterThan(0);
  });

  function numbered(count: number): number[] {
    return Array.from({ length: count }, (_, index) => index);
  }
});

describe("a shape that is wrong is complained of with its path, and the rest holds", () => {
  const kept = { dimensions: { tenant: "'red'" } };

  test.each<[string, JsonObject]>([
    ["metrics", { metrics: "all" }],
    ["metrics", { metrics: {} }],
    ["metrics[1]", { metrics: [kept, 1] }],
    ["metrics[1]", { metrics: [kept, null] }],
    ["metrics[1].name", { metrics: [kept, { name: 1 }] }],
    ["metrics[1].dimensions", { metrics: [kept, { dimensions: [] }] }],
    ["metrics[1].dimensions", { metrics: [kept, { dimensions: "source_app" }] }],
    ["metrics[1].dimensions.zone", { metrics: [kept, { dimensions: { zone: 1 } }] }],
    ["metrics[1].dimensions.zone", { metrics: [kept, { dimensions: { zone: null } }] }],
    ["metrics[1].tags_to_remove", { metrics: [kept, { tags_to_remove: "source_app" }] }],
    ["metrics[1].tags_to_remove", { metrics: [kept, { tags_to_remove: [1] }] }],
    ["metrics[1].drop", { metrics: [kept, { name: "requests_total", drop: "perhaps" }] }],
    ["metrics[1].drop", { metrics: [kept, { name: "requests_total", drop: 1 }] }],
    ["metrics[1].match", { metrics: [kept, { match: [] }] }],
    ["definitions", { metrics: [kept], definitions: {} }],
    ["definitions[0]", { metrics: [kept], definitions: ["mine"] }],
    ["definitions[0].name", { metrics: [kept], definitions: [{ name: 1, value: "1" }] }],
    ["definitions[0].name", { metrics: [kept], definitions: [{ value: "1" }] }],
    ["definitions[0].name", { metrics: [kept], definitions: [{ name: "a-b", value: "1" }] }],
    ["definitions[0].value", { metrics: [kept], definitions: [{ name: "mine", value: 1 }] }],
    ["definitions[0].value", { metrics: [kept], definitions: [{ name: "mine" }] }],
    ["definitions[0].type", { metrics: [kept], definitions: [{ name: "mine", value: "1", type: "SUMMARY" }] }],
    ["definitions[0].type", { metrics: [kept], definitions: [{ name: "mine", value: "1", type: 1 }] }],
    ["classification", { metrics: [kept], classification: [] }],
    ["classification.attributes", { metrics: [kept], classification: { attributes: {} } }],
    ["classification.attributes[0]", { metrics: [kept], classification: { attributes: [1] } }],
    ["classification.attributes[0].output_attribute", attribute({ output_attribute: 1, match: [] })],
    ["classification.attributes[0].output_attribute", attribute({ match: [] })],
    ["classification.attributes[0].match", attribute({ output_attribute: "a", match: {} })],
    ["classification.attributes[0].match[0]", attribute({ output_attribute: "a", match: ["x"] })],
    [
      "classification.attributes[0].match[0].condition",
      attribute({ output_attribute: "a", match: [{ condition: 1, value: "v" }] }),
    ],
    ["classification.attributes[0].match[0].value", attribute({ output_attribute: "a", match: [{ value: 1 }] })],
    ["reporter", { metrics: [kept], reporter: "CLIENT" }],
    ["reporter", { metrics: [kept], reporter: 1 }],
    ["source_security_policy", { metrics: [kept], source_security_policy: "perhaps" }],
    ["tcp_reporting_duration", { metrics: [kept], tcp_reporting_duration: 5 }],
    ["tcp_reporting_duration", { metrics: [kept], tcp_reporting_duration: "soon" }],
  ])("%s: %j", (path, configuration) => {
    const host = startCustomInbound(configuration, ["tenant"]);
    requestInbound(host);
    expect(recordedMetrics(host)).toEqual(NAMES);
    const isKept = Array.isArray(configuration["metrics"]);
    expect(customLabelsOf(host)).toEqual(isKept ? { tenant: "red" } : {});
    expect(complaints(host).map((text) => text.includes(`${path}:`))).toContain(true);
    expect(Object.keys(faults(host))).toEqual(["configuration"]);
  });

  function attribute(one: JsonObject): JsonObject {
    return { metrics: [kept], classification: { attributes: [one] } };
  }
});
