// What is generated from the vocabulary is fresh, and every word of it has a text for the docs.

import { expect, test } from "vitest";
import { FAULT_REASONS, LABELS } from "../../collector/vocabulary.ts";
import { changedLines } from "../../envoy/blocks.ts";
import { readGeneratedFiles } from "../../envoy/generated.ts";
import { projectRoot } from "../../envoy/project.ts";
import { FAULT_HELP, LABEL_HELP } from "../../envoy/vocabulary-help.ts";

test("generated blocks are what `npm run generate` would write", async () => {
  for (const { path, current, fresh } of await readGeneratedFiles(projectRoot())) {
    expect(changedLines(current, fresh), path).toEqual([]);
    expect(current, path).toBe(fresh);
  }
});

test("the docs describe the labels and reasons that exist, and no others", () => {
  expect(Object.keys(LABEL_HELP)).toEqual(LABELS);
  expect(Object.keys(FAULT_HELP)).toEqual(FAULT_REASONS);
});
