// Parts of a file's value by path, while a fault may have left anything in their place.

/** From the top of the file: keys of sections and indices of lists. */
export type Path = readonly (string | number)[];
export type Section = Record<string, unknown>;

export function isSection(value: unknown): value is Section {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** Undefined where a key is missing or what should hold it is no section. */
export function valueAt(value: unknown, path: Path): unknown {
  return path.reduce<unknown>((at, key) => (isSection(at) ? at[key] : undefined), value);
}

/** The elements of a list that are sections, each with its index; none where there is no list. */
export function entriesAt(value: unknown, path: Path): [number, Section][] {
  const list = valueAt(value, path);
  return Array.isArray(list) ? [...list.entries()].filter(([, each]) => isSection(each)) : [];
}

/** Keys of a section whose values are texts other than "". */
export function setKeys(section: unknown): string[] {
  if (!isSection(section)) return [];
  return Object.keys(section).filter((key) => typeof section[key] === "string" && section[key] !== "");
}
