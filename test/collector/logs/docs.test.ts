// docs/logs.md against the API that it describes: every parameter, and every command that it shows.

import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import { afterAll, expect, it } from "vitest";
import { PARAMETERS, parseLogQuery } from "../../../collector/logs/log-query.ts";
import { FACETS } from "../../../collector/logs/store.ts";
import { LOG_REASONS } from "../../../collector/self.ts";
import { readLogs } from "../../../collector/web/logs.ts";
import { recordOf, Stores, written } from "./records.ts";

const TEXT = readFileSync(resolve(import.meta.dirname, "../../../docs/logs.md"), "utf8");

const stores = new Stores();
afterAll(() => stores.clean());

/** Words in the first cells of the table under a heading of columns. */
function rowsOf(heading: string): string[] {
  const [table = ""] = TEXT.split(`| ${heading} |\n`)[1]?.split("\n\n") ?? [];
  return [...table.matchAll(/^\| (`[^|]*`) \|/gm)].flatMap((row) =>
    [...(row[1] as string).matchAll(/`(\w+)`/g)].map((match) => match[1] as string),
  );
}

it("has a row for every rule and every parameter", () => {
  expect(rowsOf("rule | keeps | key")).toEqual([...LOG_REASONS]);
  expect(rowsOf("parameter | a value is |").sort()).toEqual(
    [...PARAMETERS.keys(), "from", "to", "limit", "cursor"].sort(),
  );
});

it("has a row for every field of an answer, and names every facet", async () => {
  const store = await stores.open();
  store.add(recordOf());
  await written(store);
  const { status, body } = await readLogs(store, new URLSearchParams());
  expect(status).toBe(200);
  expect(rowsOf("field |").sort()).toEqual(Object.keys(body).sort());
  for (const facet of FACETS) expect(TEXT).toMatch(new RegExp(`\\| \`facets\` \\|.*\`${facet}\``));
});

it("shows commands that are answered", async () => {
  const urls = [...TEXT.matchAll(/^\$ curl -s '([^']+)'$/gm)].map((match) => new URL(match[1] as string));
  expect(urls.length).toBeGreaterThan(4);
  const store = await stores.open();
  for (const { pathname, searchParams } of urls) {
    expect(pathname).toBe("/api/v1/logs");
    expect([String(searchParams), typeof parseLogQuery(searchParams, Date.now())]).toEqual([
      String(searchParams),
      "object",
    ]);
    expect((await readLogs(store, searchParams)).status).toBe(200);
  }
});
