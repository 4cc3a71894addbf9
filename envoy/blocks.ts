// Generated blocks in files that are otherwise written by hand. A block stands between two marker lines:
//
//     # generated: stats_tags              <!-- generated: labels -->
//     ...                                  ...
//     # end generated                      <!-- end generated -->

const BEGIN = /^(\s*)(?:# generated: (\w+)|<!-- generated: (\w+) -->)$/;
const END = /^\s*(?:# end generated|<!-- end generated -->)$/;

/**
 * The text with the lines between each pair of markers replaced by `render(name)`, indented as the marker is.
 * Throws Error for a block without end, and whatever `render` throws for a name that it does not know.
 */
export function fillBlocks(text: string, render: (name: string) => readonly string[]): string {
  const filled: string[] = [];
  let open: string | null = null;
  for (const line of text.split("\n")) {
    if (open !== null) {
      if (!END.test(line)) continue;
      open = null;
    }
    filled.push(line);
    const [, indent = "", inYaml, inMarkdown] = BEGIN.exec(line) ?? [];
    const name = inYaml ?? inMarkdown;
    if (name === undefined) continue;
    filled.push(...render(name).map((content) => (content === "" ? "" : indent + content)));
    open = name;
  }
  if (open !== null) throw new Error(`the generated block ${open} has no end`);
  return filled.join("\n");
}

/** The lines that only one of two texts has, in order: ["- old line", "+ new line"]. */
export function changedLines(current: string, fresh: string): string[] {
  const before = current.split("\n");
  const after = fresh.split("\n");
  const known = new Set(before);
  const wanted = new Set(after);
  return [
    ...before.filter((line) => !wanted.has(line)).map((line) => `- ${line}`),
    ...after.filter((line) => !known.has(line)).map((line) => `+ ${line}`),
  ];
}
