import { describe, expect, test } from "vitest";
import type { Graph, GraphEdge } from "../../demo/graph.ts";
import { LiveTable } from "../../demo/live-table.ts";
import { renderTable, renderTcpTable } from "../../demo/table.ts";

const edge: GraphEdge = {
  source: "n1",
  destination: "n2",
  requests: 200,
  requests_per_second: 20,
  error_ratio: 0.02,
  p50_ms: 4.12,
  p99_ms: 73,
  mtls: true,
  tcp: { connections_opened: 0, connections_closed: 0, sent_bytes: 0, received_bytes: 0 },
};

function graphOf(...edges: GraphEdge[]): Graph {
  return {
    window_seconds: 10,
    nodes: [
      { id: "n1", workload: "ingress-gateway", namespace: "ingress", service: "ingress-gateway" },
      { id: "n2", workload: "productpage-v1", namespace: "default", service: "productpage" },
    ],
    edges,
  };
}

describe("renderTcpTable", () => {
  const tcp = { connections_opened: 2, connections_closed: 1, sent_bytes: 4800, received_bytes: 904 };

  test("has one aligned line per edge with TCP traffic", () => {
    const bySilent = { ...edge, source: "n2", destination: "n1" };
    expect(renderTcpTable(graphOf({ ...edge, tcp }, bySilent))).toEqual([
      "TCP CLIENT       SERVER          OPENED  CLOSED  TO CLIENT B/S  TO SERVER B/S  BY",
      "ingress-gateway  productpage-v1       2       1            480             90  mutual TLS",
    ]);
  });

  test.each([
    [false, "plaintext"],
    [null, "?"],
  ])("mtls %s is said by %s", (mtls, text) => {
    expect(renderTcpTable(graphOf({ ...edge, mtls, tcp }))[1]?.endsWith(`  ${text}`)).toBe(true);
  });

  test("is empty without traffic, and an edge without requests is in no other table", () => {
    expect(renderTcpTable(graphOf(edge))).toEqual([]);
    expect(renderTable(graphOf({ ...edge, requests: 0, tcp }))).toEqual([]);
  });
});

describe("renderTable", () => {
  test("has one aligned line per edge", () => {
    expect(renderTable(graphOf(edge))).toEqual([
      "SOURCE           DESTINATION     REQ/S  ERRORS  P50 MS  P99 MS  MTLS",
      "ingress-gateway  productpage-v1   20.0   2.0 %     4.1    73.0  yes",
    ]);
  });

  test("names a service of which no workload answered by its id", () => {
    const id = "service/default/reviews";
    const nodes = [{ id, workload: "unknown", namespace: "default", service: "reviews" }];
    const [, row] = renderTable({ ...graphOf(edge), nodes, edges: [{ ...edge, destination: id }] });
    expect(row).toContain(id);
  });

  test("says what is not known, and names a node it does not know by its id", () => {
    const [, row] = renderTable(graphOf({ ...edge, source: "n9", p50_ms: null, p99_ms: null, mtls: null }));
    expect(row).toBe("n9      productpage-v1   20.0   2.0 %       -       -  ?");
  });

  test("is empty without requests", () => {
    expect(renderTable(graphOf())).toEqual([]);
    expect(renderTable(graphOf({ ...edge, requests: 0 }))).toEqual([]);
  });

  test("orders edges by their ends, and keeps within the width", () => {
    const lines = renderTable(graphOf({ ...edge, source: "n2", destination: "n1" }, edge), 20);
    expect(lines.map((line) => line.length)).toEqual([20, 20, 20]);
    expect(lines[1]).toMatch(/^ingress-gateway/);
    expect(lines[2]).toMatch(/^productpage-v1/);
  });
});

class FakeTerminal {
  readonly writes: string[] = [];
  readonly isTTY: boolean;
  readonly columns = 80;

  constructor(isTTY: boolean) {
    this.isTTY = isTTY;
  }

  write(text: string): void {
    this.writes.push(text);
  }
}

describe("LiveTable", () => {
  test("redraws in place on a terminal", () => {
    const terminal = new FakeTerminal(true);
    const view = new LiveTable(terminal);
    view.show(graphOf(), "one");
    view.show(graphOf(edge), "two");
    view.note("a note");
    expect(terminal.writes[0]).toBe("one\nno requests yet\n\n");
    // Three lines up, where the first drawing began.
    expect(terminal.writes[1]).toContain("\x1b[3A\x1b[Jtwo\nSOURCE");
    expect(terminal.writes[2]).toBe("\x1b[4A\x1b[Ja note\n");
    expect(terminal.writes[3]).toMatch(/^two\nSOURCE/);
  });

  test("prints the first table with edges and the last one elsewhere", () => {
    const terminal = new FakeTerminal(false);
    const view = new LiveTable(terminal);
    view.show(graphOf(), "empty");
    expect(view.isShown).toBe(false);
    view.show(graphOf(edge), "first");
    view.show(graphOf(edge), "second");
    view.show(graphOf(edge), "last", true);
    expect(view.isShown).toBe(true);
    expect(terminal.writes.map((text) => text.split("\n")[0])).toEqual(["first", "last"]);
    expect(terminal.writes.join("")).not.toContain("\x1b");
  });
});
