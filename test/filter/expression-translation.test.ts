// CEL as users write it -> CEL that stock Envoy evaluates, as the probe says it compiles it. What the results are: expression.test.ts.

import { describe, expect, test } from "vitest";
import { randomNumbers } from "../host/random.ts";
import { compiledForms, startProbe } from "./expression/start.ts";

const UPSTREAM = "filter_state['wasm.meshtally.upstream_peer']";
const DOWNSTREAM = "filter_state['wasm.meshtally.downstream_peer']";

/** Configurations hold 64 expressions, but the probe logs the form of more. */
function formsOf(sources: readonly string[]): string[] {
  return compiledForms(startProbe(sources)).map(({ form }) => form);
}

function formOf(source: string): string {
  return formsOf([source])[0] ?? "";
}

/** As part of something that is no plain path, so that no guard hides the translation. */
const translated = (source: string) => formOf(`${source} + ''`).replace(/^string\((.*) \+ ''\)$/s, "$1");

describe("names", () => {
  test.for([
    // Roots of Istio's old filters.
    ["node.id", "xds.node.id"],
    ["node.metadata['node']", "xds.node.metadata['node']"],
    ["cluster_name", "xds.cluster_name"],
    ["cluster_metadata.filter_metadata", "xds.cluster_metadata.filter_metadata"],
    ["route_name", "xds.route_name"],
    ["route_metadata.x", "xds.route_metadata.x"],
    ["virtual_host_name", "xds.virtual_host_name"],
    ["listener_direction", "xds.listener_direction"],
    ["listener_metadata.x", "xds.listener_metadata.x"],
    ["upstream_host_metadata.x", "xds.upstream_host_metadata.x"],
    ["[node, cluster_name][0]", "[xds.node, xds.cluster_name][0]"],
    ["a ? node:cluster_name", "a ? xds.node:xds.cluster_name"],
    // The same names elsewhere are no roots.
    ["xds.node.id", "xds.node.id"],
    ["xds . node . id", "xds . node . id"],
    ["request.cluster_name", "request.cluster_name"],
    ["nodes", "nodes"],
    ["my_node", "my_node"],
    ["node()", "node()"],
    ["x.exists(node, node == 'a')", "x.exists(node, node == 'a')"],
    ["x.map(node, 1).all(y, y == cluster_name)", "x.map(node, 1).all(y, y == xds.cluster_name)"],
    ["exists(node, node)", "exists(xds.node, xds.node)"],
    // Literals.
    ["'node'", "'node'"],
    ['"node.id"', '"node.id"'],
    ["'it\\'s node' + node", "'it\\'s node' + xds.node"],
    ['"\\\\" + node', '"\\\\" + xds.node'],
    ["r'\\' + node", "r'\\' + xds.node"],
    ["R'\\' + node", "R'\\' + xds.node"],
    ["b'node' + node", "b'node' + xds.node"],
    ["bR'\\' + rb'\\' + node", "bR'\\' + rb'\\' + xds.node"],
    ["'''it's node''' + node", "'''it's node''' + xds.node"],
    ['"""a "node" \n b""" + node', '"""a "node" \n b""" + xds.node'],
    ["r'''\\''' + node", "r'''\\''' + xds.node"],
    ["'' + node", "'' + xds.node"],
    ["x.`node` + node", "x.`node` + xds.node"],
    ["x'node'", "x'node'"],
    // Numbers.
    ["1.5e3 + 0x1fu + 2.node", "1.5e3 + 0x1fu + 2.node"],
    ["1+node", "1+xds.node"],
    // White space and comments.
    ["  a\n\t ==\r\n node ", "a == xds.node"],
    ["a // node\n + node", "a + xds.node"],
    ["'// node' + node", "'// node' + xds.node"],
    ["a / node", "a / xds.node"],
  ] as const)("%s -> %s", ([source, expected]) => {
    expect(translated(source)).toBe(expected);
  });

  test.for([
    ["upstream_peer.workload", `${UPSTREAM}.workload`],
    ["downstream_peer.workload", `${DOWNSTREAM}.workload`],
    ["filter_state.upstream_peer.namespace", `${UPSTREAM}.namespace`],
    ["filter_state['upstream_peer'].namespace", `${UPSTREAM}.namespace`],
    ['filter_state["downstream_peer"].namespace', `${DOWNSTREAM}.namespace`],
    ['filter_state["wasm.upstream_peer"].namespace', `${UPSTREAM}.namespace`],
    ["filter_state['wasm.downstream_peer']", DOWNSTREAM],
    ["filter_state [ 'upstream_peer' ] . app", `${UPSTREAM}.app`],
    ["upstream_peer['app']", `${UPSTREAM}['app']`],
    // The FlatBuffer's fields.
    ["upstream_peer.workload_name", `${UPSTREAM}.workload`],
    ["upstream_peer.cluster_id", `${UPSTREAM}.cluster`],
    ["upstream_peer.labels['app'].value", `${UPSTREAM}.labels['app']`],
    ['upstream_peer.labels["app"].value', `${UPSTREAM}.labels["app"]`],
    ["filter_state.upstream_peer.labels['app'].value", `${UPSTREAM}.labels['app']`],
    ["upstream_peer.labels.app.value", `${UPSTREAM}.labels.app`],
    ["upstream_peer.labels['app']", `${UPSTREAM}.labels['app']`],
    ["upstream_peer.labels['value'].valued", `${UPSTREAM}.labels['value'].valued`],
    ["upstream_peer.labels", `${UPSTREAM}.labels`],
    ["request.workload_name", "request.workload_name"],
    // Questions.
    ["has(upstream_peer.labels)", `has(${UPSTREAM}.labels)`],
    ["has(filter_state.upstream_peer)", "('wasm.meshtally.upstream_peer' in filter_state)"],
    ["!has(filter_state.downstream_peer)", "!('wasm.meshtally.downstream_peer' in filter_state)"],
    ["'upstream_peer' in filter_state", "'wasm.meshtally.upstream_peer' in filter_state"],
    ["'upstream_peer' in filter_state['k']", "'upstream_peer' in filter_state['k']"],
    ['"wasm.upstream_peer" in filter_state', "'wasm.meshtally.upstream_peer' in filter_state"],
    ["'upstream_peer' in request.headers", "'upstream_peer' in request.headers"],
    // Other states, and what only looks like a peer.
    ["filter_state['k']", "filter_state['k']"],
    ["filter_state.k", "filter_state.k"],
    ["filter_state[r'upstream_peer']", "filter_state[r'upstream_peer']"],
    ["filter_state[upstream_peer]", `filter_state[${UPSTREAM}]`],
    ["x.filter_state.upstream_peer", "x.filter_state.upstream_peer"],
    ["upstream_peer_id", "upstream_peer_id"],
    ["'upstream_peer'", "'upstream_peer'"],
    // States of other wasm filters.
    ["istio_operationId", "string(filter_state['wasm.istio_operationId'])"],
    ["istio_responseClass.size()", "string(filter_state['wasm.istio_responseClass']).size()"],
    ["filter_state['wasm.istio_operationId']", "filter_state['wasm.istio_operationId']"],
    ["x.istio_operationId", "x.istio_operationId"],
  ] as const)("%s -> %s", ([source, expected]) => {
    expect(translated(source)).toBe(expected);
  });
});

describe("guards", () => {
  const guarded = (guards: string, path: string) => `${guards} ? string(${path}) : 'unknown'`;

  test.for([
    ["request.host", guarded("has(request.host)", "request.host")],
    ["string(request.host)", guarded("has(request.host)", "request.host")],
    ["string( request.host )", guarded("has(request.host)", "request.host")],
    ["request.headers['x']", guarded("has(request.headers) && 'x' in request.headers", "request.headers['x']")],
    ['filter_state["k"]', guarded('"k" in filter_state', 'filter_state["k"]')],
    ["cluster_name", guarded("has(xds.cluster_name)", "xds.cluster_name")],
    [
      "upstream_peer.labels['a'].value",
      guarded(
        `'wasm.meshtally.upstream_peer' in filter_state && has(${UPSTREAM}.labels) && 'a' in ${UPSTREAM}.labels`,
        `${UPSTREAM}.labels['a']`,
      ),
    ],
    [
      "istio_operationId",
      guarded("'wasm.istio_operationId' in filter_state", "filter_state['wasm.istio_operationId']"),
    ],
    // Up to a number, for which there is no question.
    ["a.b[0].c['d']", guarded("has(a.b)", "a.b[0].c['d']")],
    ["a[0].b", "string(a[0].b)"],
    // No paths.
    ["a", "string(a)"],
    ["string(a)", "string(string(a))"],
    ["request.host == 'x'", "string(request.host == 'x')"],
    ["request.host.size()", "string(request.host.size())"],
    ["a[b]", "string(a[b])"],
    ["a['b', 'c']", "string(a['b', 'c'])"],
    ["(a.b)", "string((a.b))"],
    ["-a.b", "string(-a.b)"],
    ["f(a).b", "string(f(a).b)"],
    ["'x'", "string('x')"],
    ["true", "string(true)"],
    ["string(a.b) + string(c.d)", "string(string(a.b) + string(c.d))"],
    ["string(a.b, c.d)", "string(string(a.b, c.d))"],
    ["a.b.", "string(a.b.)"],
    ["a..b", "string(a..b)"],
    ["a.1", "string(a.1)"],
    ["a['b'", "string(a['b')"],
    ["string(a.b", "string(string(a.b)"],
    ["", "string()"],
  ] as const)("%s -> %s", ([source, expected]) => {
    expect(formOf(source)).toBe(expected);
  });

  test("of more than 16 levels are left out", () => {
    const path = (levels: number) => `a${".b".repeat(levels)}`;
    expect(formOf(path(16))).toMatch(/^has\(a\.b\) && .* \? string\(a(\.b){16}\) : 'unknown'$/);
    expect(formOf(path(17))).toBe(`string(${path(17)})`);
  });
});

describe("hostile sources", () => {
  test.for([
    ["an unterminated literal", "'abc"],
    ["one with an escaped end", "'abc\\"],
    ["an escape at the end of another", '"\\'],
    ["a literal over two lines", "'a\nb'"],
    ["an unterminated triple", "'''abc''"],
    ["an unterminated backtick", "a.`b"],
    ["10,000 brackets", "[".repeat(10_000)],
    ["4,000 brackets", "(".repeat(4_000)],
    ["2,000 pairs of brackets", `${"(".repeat(2_000)}1${")".repeat(2_000)}`],
    ["2,000 selects", `a${".b".repeat(2_000)}(`],
    ["NULs", "a\0b\0"],
    ["a lone surrogate", "a + \ud800"],
    ["text beyond ASCII outside of literals", "größe.日本 + 😀"],
    ["only a comment", "// nothing"],
    ["nothing", ""],
    ["white space", " \n\t"],
    ["an injection", "'a'), string('b'"],
    ["one into the list", "'a')] + [string('b'"],
    ["one by a comment", "'a' //"],
  ] as const)("%s neither traps nor disturbs the others", ([, source]) => {
    const host = startProbe([source, "request.host", source]);
    const [hostile, sane] = compiledForms(host);
    if (source !== "'a' //") expect(hostile?.index).toBeLessThan(0);
    expect(sane?.index).toBe(source === "'a' //" ? 1 : 0);
    expect(host.request().filterState.get("wasm.probe")?.toString()).toContain("reviews:9080");
  });

  const SEED = 20_251_122;
  const PIECES = [
    ..."'\"`\\.()[]{},?:/ \n\0rRbB01aé",
    ...[
      "filter_state",
      "upstream_peer",
      "labels",
      ".value",
      "has(",
      " in ",
      "node",
      "istio_x",
      "string(",
      "'''",
      "//",
      "😀",
    ],
  ];

  test(`2,000 random ones each have some form, and trap nowhere (seed ${SEED})`, () => {
    const random = randomNumbers(SEED);
    for (let round = 0; round < 20; round++) {
      const sources = Array.from({ length: 100 }, () =>
        Array.from({ length: random(30) }, () => PIECES[random(PIECES.length)] ?? "").join(""),
      );
      const host = startProbe(sources);
      expect(compiledForms(host)).toHaveLength(sources.length);
      host.request();
    }
  });
});
