// Where this project lies on disk, and what its build leaves there.

import { existsSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

/**
 * The folder of package.json, sought upwards from this file: the same from the sources (tests) and from `build/`.
 * Throws Error when there is none above, that is, when the file was copied out of the project.
 */
export function projectRoot(): string {
  let folder = dirname(fileURLToPath(import.meta.url));
  while (!existsSync(join(folder, "package.json"))) {
    const parent = dirname(folder);
    if (parent === folder) throw new Error(`no package.json above ${fileURLToPath(import.meta.url)}`);
    folder = parent;
  }
  return folder;
}

/** The wasm that `npm run build` leaves: "/src/meshtally/build/filter.wasm". */
export function filterWasmPath(): string {
  return join(projectRoot(), "build", "filter.wasm");
}

/** The compiled collector that `npm run build` leaves: "/src/meshtally/build/collector/main.js". */
export function collectorMainPath(): string {
  return join(projectRoot(), "build", "collector", "main.js");
}
