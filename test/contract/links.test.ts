// Links of the project's texts: each leads to a file that there is, and to a heading in it.

import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { expect, it } from "vitest";
import { projectRoot } from "../../envoy/project.ts";

const SKIPPED = ["node_modules", "build", "coverage"];

const texts = readdirSync(projectRoot(), { withFileTypes: true }).flatMap(({ name }) => {
  if (name.endsWith(".md")) return [name];
  if (name.startsWith(".") || SKIPPED.includes(name) || name.includes(".")) return [];
  return filesIn(name).filter((file) => file.endsWith(".md"));
});

function filesIn(folder: string): string[] {
  try {
    return (readdirSync(join(projectRoot(), folder), { recursive: true }) as string[]).map((file) =>
      join(folder, file),
    );
  } catch {
    return []; // a file without an extension
  }
}

/** Without examples, in which brackets are none of a link. */
function read(file: string): string {
  return readFileSync(join(projectRoot(), file), "utf8").replaceAll(/^```.*?^```/gms, "");
}

/** As GitHub makes them of headings. */
function anchorsOf(file: string): string[] {
  return [...read(file).matchAll(/^#+ (.+)$/gm)].map(([, heading]) =>
    (heading as string)
      .toLowerCase()
      .replaceAll(/[^\p{L}\p{N}_ -]/gu, "")
      .replaceAll(" ", "-"),
  );
}

function isDead(from: string, link: string): boolean {
  const [path = "", anchor] = link.split("#");
  const file = path === "" ? from : join(dirname(from), path);
  if (!existsSync(join(projectRoot(), file))) return true;
  return anchor !== undefined && !anchorsOf(file).includes(anchor);
}

it.each(["README.md", ...texts.filter((file) => file !== "README.md")])("%s has no dead link", (file) => {
  const links = [...read(file).matchAll(/\]\(([^)\s]+)\)/g)].map(([, link]) => link as string);
  const own = links.filter((link) => !/^[a-z]+:/.test(link));
  expect(own.filter((link) => isDead(file, link))).toEqual([]);
});

it("the texts are found", () => {
  expect(texts).toEqual(
    expect.arrayContaining(["README.md", "docs/configuration.md", "docs/adr/0003-series-store.md"]),
  );
});
