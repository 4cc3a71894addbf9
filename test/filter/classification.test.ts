// classification: which operation a request is, by the first condition that holds. Istio's attributegen.

import { describe, expect, test } from "vitest";
import { complaints, customLabelsOf, requestInbound, startCustomInbound } from "../host/customised.ts";
import type { Host, HttpStream, StreamOptions } from "../host/host.ts";
import { countedRequests, countedTotal, countedWith, exchangeHeaders, faults, PRODUCTPAGE } from "../host/mesh.ts";
import type { JsonObject } from "../host/struct.ts";

const OPERATION = "istio_operationId";
const BY_OPERATION: JsonObject = { dimensions: { operation: OPERATION } };
const REVIEWS_OPERATIONS: JsonObject[] = [
  { condition: "request.path.startsWith('/reviews/') && request.method == 'GET'", value: "GetReview" },
  { condition: "request.path.startsWith('/reviews/')", value: "ChangeReview" },
  { condition: "request.path == '/health'", value: "Health" },
];

function start(match: readonly JsonObject[], metrics: readonly JsonObject[] = [BY_OPERATION]): Host {
  return startOf([{ output_attribute: OPERATION, match: [...match] }], metrics);
}

function startOf(attributes: readonly JsonObject[], metrics: readonly JsonObject[] = [BY_OPERATION]): Host {
  return startCustomInbound({ classification: { attributes: [...attributes] }, metrics: [...metrics] }, [
    "operation",
    "other",
  ]);
}

function request(host: Host, path: string, method = "GET", more: StreamOptions = {}): HttpStream {
  const requestHeaders = [...exchangeHeaders(PRODUCTPAGE), [":path", path], [":method", method]] as const;
  return requestInbound(host, { requestHeaders, ...more });
}

/** The attribute that a request left for loggers. */
function left(stream: HttpStream, attribute = OPERATION): string | undefined {
  return stream.filterState.get(`wasm.${attribute}`)?.toString("utf8");
}

describe("the search", () => {
  test.each([
    ["/reviews/0", "GET", "GetReview"],
    ["/reviews/0", "POST", "ChangeReview"],
    ["/health", "GET", "Health"],
  ])("%s %s: the first condition that holds names it %s", (path, method, expected) => {
    const host = start(REVIEWS_OPERATIONS);
    expect(left(request(host, path, method))).toBe(expected);
    expect(customLabelsOf(host)).toEqual({ operation: expected });
    expect(faults(host)).toEqual({});
  });

  test("none holds: the dimension is unknown, and loggers find nothing", () => {
    const host = start(REVIEWS_OPERATIONS);
    expect(left(request(host, "/other"))).toBeUndefined();
    expect(customLabelsOf(host)).toEqual({ operation: "unknown" });
    expect(faults(host)).toEqual({});
  });

  test("what one request was is not what the next is", () => {
    const host = start(REVIEWS_OPERATIONS);
    for (const path of ["/health", "/other", "/reviews/1", "/health"]) request(host, path);
    expect(countedRequests(host).map(({ labels, value }) => [labels["operation"], value])).toEqual([
      ["Health", 2n],
      ["unknown", 1n],
      ["GetReview", 1n],
    ]);
  });

  test.each<[string, JsonObject]>([
    ["an empty condition", { condition: "", value: "Else" }],
    ["no condition", { value: "Else" }],
  ])("%s holds", (_, last) => {
    const host = start([...REVIEWS_OPERATIONS, last, { value: "NotReached" }]);
    expect(left(request(host, "/other"))).toBe("Else");
    expect(left(request(host, "/health"))).toBe("Health");
  });

  test("a condition that fails ends it, and is counted", () => {
    const host = start([
      { condition: "request.path == '/first'", value: "First" },
      { condition: "request.headers['x-none'] == '1'", value: "Failing" },
      { value: "Else" },
    ]);
    expect(left(request(host, "/other"))).toBeUndefined();
    expect(customLabelsOf(host)).toEqual({ operation: "unknown" });
    expect(faults(host)).toEqual({ expression: 1 });
  });

  test("a condition that would fail behind the one that holds is not reached", () => {
    const host = start([
      { condition: "request.path == '/first'", value: "First" },
      { condition: "request.headers['x-none'] == '1'", value: "Failing" },
    ]);
    expect(left(request(host, "/first"))).toBe("First");
    expect(faults(host)).toEqual({});
  });

  test("a condition reads the response", () => {
    const host = start([{ condition: "response.code >= 500", value: "Broken" }, { value: "Fine" }]);
    expect([200, 503].map((responseCode) => left(request(host, "/", "GET", { responseCode })))).toEqual([
      "Fine",
      "Broken",
    ]);
  });

  test("a condition that does not parse never holds, is complained of with its path; the rest holds", () => {
    const host = startOf([
      { output_attribute: "broken", match: [{ condition: "request.path ==", value: "x" }] },
      { output_attribute: OPERATION, match: REVIEWS_OPERATIONS },
    ]);
    const stream = request(host, "/health");
    expect(left(stream, "broken")).toBeUndefined();
    expect(left(stream)).toBe("Health");
    expect(complaints(host)).toEqual([expect.stringContaining("classification.attributes[0].match[0].condition")]);
    expect(faults(host)).toEqual({ configuration: 1 });
  });

  test("a condition of another type never holds", () => {
    const host = start([{ condition: 1, value: "x" }]);
    expect(left(request(host, "/health"))).toBeUndefined();
    expect(faults(host)).toEqual({ configuration: 1 });
  });
});

describe("what it names", () => {
  test("is part of a larger expression", () => {
    const host = start(REVIEWS_OPERATIONS, [
      { dimensions: { operation: `'op:' + ${OPERATION} + '/' + request.method` } },
    ]);
    request(host, "/health");
    expect(customLabelsOf(host)).toEqual({ operation: "op:Health/GET" });
  });

  test("is unknown in a larger expression while undecided", () => {
    const host = start(REVIEWS_OPERATIONS, [{ dimensions: { operation: `'op:' + ${OPERATION}` } }]);
    request(host, "/other");
    expect(customLabelsOf(host)).toEqual({ operation: "unknown" });
  });

  test("is not replaced inside a string, nor inside a longer name", () => {
    const dimensions = { operation: `'${OPERATION}'`, other: `request.headers['x-${OPERATION}']` };
    const host = start(REVIEWS_OPERATIONS, [{ dimensions }]);
    requestInbound(host, {
      requestHeaders: [
        [":path", "/health"],
        [`x-${OPERATION.toLowerCase()}`, "sent"],
      ],
    });
    expect(customLabelsOf(host)["operation"]).toBe(OPERATION);
  });

  test("decides whether an entry applies", () => {
    const drop = { name: "requests_total", match: `${OPERATION} == 'Health'`, drop: true };
    const host = start(REVIEWS_OPERATIONS, [drop]);
    for (const path of ["/health", "/reviews/0", "/health"]) request(host, path);
    expect(countedTotal(host)).toBe(1);
  });

  test.each(["it's", 'say "x"', "back\\slash", "12345678", "1", "gr\u00f6\u00dfe", "a;.;b"])(
    "the value %j goes to loggers as it is, and cleaned into the label",
    (value) => {
      const host = start([{ value }], [{ dimensions: { operation: OPERATION, other: `${OPERATION} + '!'` } }]);
      expect(left(request(host, "/"))).toBe(value);
      const cleaned = value.replace(";.;", ";_;");
      expect(customLabelsOf(host)).toEqual({ operation: cleaned, other: `${cleaned}!` });
    },
  );

  test("overrides a standard label", () => {
    const host = start(REVIEWS_OPERATIONS, [{ dimensions: { destination_service: OPERATION } }]);
    request(host, "/health");
    expect(countedWith(host, { destination_service: "Health" })).toBe(1);
  });

  test("is left for loggers though no metric asks for it", () => {
    const host = start(REVIEWS_OPERATIONS, []);
    expect(left(request(host, "/health"))).toBe("Health");
  });

  test("is left for loggers though every metric is dropped", () => {
    const names = ["requests_total", "request_duration_milliseconds", "request_bytes", "response_bytes"];
    const host = start(
      REVIEWS_OPERATIONS,
      names.map((name) => ({ name, drop: true })),
    );
    expect(left(request(host, "/health"))).toBe("Health");
  });
});

describe("several attributes", () => {
  const CLASS: JsonObject = {
    output_attribute: "istio_responseClass",
    match: [{ condition: "response.code < 400", value: "ok" }, { value: "error" }],
  };

  test("are decided each for itself", () => {
    const operation = { output_attribute: OPERATION, match: REVIEWS_OPERATIONS };
    const dimensions = { operation: OPERATION, other: "istio_responseClass" };
    const host = startOf([operation, CLASS], [{ dimensions }]);
    const stream = request(host, "/health", "GET", { responseCode: 503 });
    expect([left(stream), left(stream, "istio_responseClass")]).toEqual(["Health", "error"]);
    expect(customLabelsOf(host)).toEqual({ operation: "Health", other: "error" });
  });

  test("a condition that fails ends the search of its own attribute alone", () => {
    const failing = {
      output_attribute: OPERATION,
      match: [{ condition: "request.headers['none'] == ''", value: "x" }],
    };
    const host = startOf([failing, CLASS], [{ dimensions: { operation: OPERATION, other: "istio_responseClass" } }]);
    request(host, "/health");
    expect(customLabelsOf(host)).toEqual({ operation: "unknown", other: "ok" });
    expect(faults(host)).toEqual({ expression: 1 });
  });

  test("of one name: the later overrides the earlier", () => {
    const earlier = { output_attribute: OPERATION, match: [{ value: "earlier" }] };
    const later = { output_attribute: OPERATION, match: [{ condition: "request.path == '/later'", value: "later" }] };
    const host = startOf([earlier, later]);
    expect(left(request(host, "/later"))).toBe("later");
    expect(left(request(host, "/other"))).toBe("earlier");
    expect(countedRequests(host).map(({ labels }) => labels["operation"])).toEqual(["later", "earlier"]);
  });

  test("are read from filter state by name, as Istio's users write it", () => {
    const host = startOf([CLASS], [{ dimensions: { other: "filter_state['wasm.istio_responseClass']" } }]);
    request(host, "/health");
    expect(customLabelsOf(host)).toEqual({ other: "ok" });
  });
});
