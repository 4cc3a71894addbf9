// Text format 0.0.4 as OpenMetrics 1.0.

/** The name of a counter's family. */
export function withoutTotal(name: string): string {
  return name.replace(/_total$/, "");
}

/**
 * Text format 0.0.4 as OpenMetrics 1.0, without the `# EOF`: counter families lose their `_total`, whole numbers in `le` get a
 * fraction, quotes in help are escaped, empty lines go. Expects families as prom-client writes them: HELP, TYPE, samples.
 */
export function toOpenMetrics(text: string): string {
  const counters = new Set([...text.matchAll(/^# TYPE (\S+) counter$/gm)].map((match) => match[1] as string));
  const lines = text.split("\n").filter((line) => line !== "");
  const converted = lines.map((line) => {
    if (!line.startsWith("# ")) return line.replace(/le="(\d+)"/, 'le="$1.0"');
    const [hash, keyword = "", name = "", ...rest] = line.split(" ");
    const family = counters.has(name) ? withoutTotal(name) : name;
    const words = rest.join(" ");
    return [hash, keyword, family, keyword === "HELP" ? words.replaceAll('"', '\\"') : words].join(" ");
  });
  return `${converted.join("\n")}\n`;
}
