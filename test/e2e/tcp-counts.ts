// What proxies counted of TCP, in forms that can be compared with toEqual.

import { setTimeout as sleep } from "node:timers/promises";
import { parseExposition, type Sample } from "./exposition.ts";
import type { Line } from "./tcp-line.ts";
import type { TcpProxy } from "./tcp-mesh.ts";

/** The four metrics of a proxy, all label sets added up. */
export interface TcpCounts {
  readonly opened: number;
  readonly closed: number;
  readonly sent: number;
  readonly received: number;
}

const FAMILIES: Readonly<Record<keyof TcpCounts, string>> = {
  opened: "istio_tcp_connections_opened_total",
  closed: "istio_tcp_connections_closed_total",
  sent: "istio_tcp_sent_bytes_total",
  received: "istio_tcp_received_bytes_total",
};

export async function tcpSamples(proxy: TcpProxy, filter = "istio_tcp_"): Promise<Sample[]> {
  return parseExposition(await proxy.admin(`/stats/prometheus?filter=${filter}`));
}

export async function tcpCounts(proxy: TcpProxy): Promise<TcpCounts> {
  return addUp(await tcpSamples(proxy));
}

function addUp(samples: readonly Sample[]): TcpCounts {
  const total = (family: string) =>
    samples.filter(({ name }) => name === family).reduce((sum, { value }) => sum + value, 0);
  const { opened, closed, sent, received } = FAMILIES;
  return { opened: total(opened), closed: total(closed), sent: total(sent), received: total(received) };
}

/** What the callers' own account says that both proxies must have counted, once all their connections are closed. */
export function countsOf(lines: readonly Line[]): TcpCounts {
  const total = (bytes: (line: Line) => number) => lines.reduce((sum, line) => sum + bytes(line), 0);
  return {
    opened: lines.length,
    closed: lines.length,
    sent: total(({ received }) => received.bytes),
    received: total(({ sent }) => sent.bytes),
  };
}

/** Reads until as many connections were closed as are wanted, or 2 s are over; then the last reading. */
export async function countsOnceClosed(proxy: TcpProxy, wanted: number): Promise<TcpCounts> {
  const deadline = performance.now() + 2000;
  for (;;) {
    const counts = await tcpCounts(proxy);
    if (counts.closed >= wanted || performance.now() > deadline) return counts;
    await sleep(50);
  }
}

/** Faults of the filter by reason, and counters of its exchange by name; what is 0 is left out. */
export async function filterCounters(proxy: TcpProxy): Promise<Record<string, number>> {
  const samples = await tcpSamples(proxy, "meshtally_filter_faults|envoy_metadata_exchange");
  return Object.fromEntries(
    samples
      .filter(({ value }) => value > 0)
      .map(({ name, labels, value }) => [labels["reason"] ?? name.replace("envoy_metadata_exchange_", ""), value]),
  );
}
