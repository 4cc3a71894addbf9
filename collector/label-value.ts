// Label values as Prometheus' text formats write them between quotes.

/** https://prometheus.io/docs/instrumenting/exposition_formats/ */
export function escapeValue(value: string): string {
  return value.replaceAll("\\", "\\\\").replaceAll('"', '\\"').replaceAll("\n", "\\n");
}

/** The value that was escaped so; of HELP texts, too. */
export function unescapeValue(text: string): string {
  return text.replace(/\\(.)/g, (_, escaped: string) => (escaped === "n" ? "\n" : escaped));
}
