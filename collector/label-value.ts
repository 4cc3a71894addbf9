// Label values as Prometheus' text formats write them between quotes.

/** https://prometheus.io/docs/instrumenting/exposition_formats/ */
export function escapeValue(value: string): string {
  return value.replaceAll("\\", "\\\\").replaceAll('"', '\\"').replaceAll("\n", "\\n");
}
