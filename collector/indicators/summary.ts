// What the sums of a window mean: rates, ratios, latencies. In base units; null for what nothing was measured of.

import type { Window } from "./indicator.ts";
import { Field } from "./measures.ts";
import { apdexOf } from "./satisfaction.ts";

export const QUANTILES = [0.5, 0.75, 0.9, 0.95, 0.99, 0.999] as const;

export interface Summary {
  readonly calls: number;
  /** Calls by code (measures.ts), of services alone. */
  readonly codes: ReadonlyMap<string, number>;
  readonly callsPerSecond: number;
  readonly successRatio: number | null;
  /** 0 to 1: (satisfied + tolerating / 2) / (satisfied + tolerating + frustrated). */
  readonly apdex: number | null;
  readonly meanSeconds: number | null;
  /** In the order of QUANTILES. */
  readonly quantileSeconds: readonly number[] | null;
  readonly requestBytes: number;
  readonly responseBytes: number;
  readonly retries: number;
  /** Mean time that the proxy held a request, a response. */
  readonly requestHeldSeconds: number | null;
  readonly responseHeldSeconds: number | null;
  readonly tcp: { readonly connections: number; readonly receivedBytes: number; readonly sentBytes: number };
}

/** Of a window that covers so many seconds. */
export function summarise({ sums, latencies, codes }: Window, seconds: number): Summary {
  const at = (field: Field) => sums[field] as number;
  const timed = at(Field.Timed);
  return {
    calls: at(Field.Calls),
    codes,
    callsPerSecond: at(Field.Calls) / seconds,
    successRatio: ratio(at(Field.Calls) - at(Field.Failures), at(Field.Calls)),
    apdex: apdexOf({
      satisfied: at(Field.Satisfied),
      tolerating: at(Field.Tolerating),
      frustrated: at(Field.Frustrated),
    }),
    meanSeconds: ratio(at(Field.LatencyNs) / 1e9, timed),
    quantileSeconds: timed === 0 ? null : QUANTILES.map((q) => (latencies.quantile(q) as number) / 1e6),
    requestBytes: at(Field.RequestBytes),
    responseBytes: at(Field.ResponseBytes),
    retries: at(Field.Retries),
    requestHeldSeconds: ratio(at(Field.RequestHeldNs) / 1e9, at(Field.RequestsHeld)),
    responseHeldSeconds: ratio(at(Field.ResponseHeldNs) / 1e9, at(Field.ResponsesHeld)),
    tcp: {
      connections: at(Field.Connections),
      receivedBytes: at(Field.ReceivedBytes),
      sentBytes: at(Field.SentBytes),
    },
  };
}

function ratio(part: number, whole: number): number | null {
  return whole === 0 ? null : part / whole;
}
