// mesh_completeness_ratio, in Prometheus' text format 0.0.4.

import { escapeValue } from "../label-value.ts";
import { type Compared, type CompletenessReading, ratiosOf } from "./compared.ts";

const NAME = "mesh_completeness_ratio";
const HELP = "Share of the requests counted in the last minutes that this channel told of, by proxy and by edge.";

/** How long a piece of text gets before it is handed on. */
const PIECE_LENGTH = 64 * 1024;

/** Nothing when nothing was compared. Pieces end at line ends. */
export function* renderCompleteness(reading: CompletenessReading): Generator<string> {
  let piece = "";
  let isBegun = false;
  for (const lines of linesOf(reading)) {
    if (!isBegun) piece = `# HELP ${NAME} ${HELP}\n# TYPE ${NAME} gauge\n`;
    isBegun = true;
    piece += lines;
    if (piece.length < PIECE_LENGTH) continue;
    yield piece;
    piece = "";
  }
  if (piece !== "") yield piece;
}

function* linesOf({ proxies, edges }: CompletenessReading): Generator<string> {
  for (const each of proxies) yield lines(`of="proxy",proxy="${escapeValue(each.proxy)}"`, each);
  for (const each of edges) {
    const ends = `source="${escapeValue(each.source)}",destination="${escapeValue(each.destination)}"`;
    yield lines(`of="edge",${ends}`, each);
  }
}

function lines(labels: string, compared: Compared): string {
  const ratios = ratiosOf(compared);
  if (ratios === null) return "";
  const { accessLog, stats } = ratios;
  return `${NAME}{${labels},channel="access_log"} ${accessLog}\n${NAME}{${labels},channel="stats"} ${stats}\n`;
}
