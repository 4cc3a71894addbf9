// `npm run generate [-- --check]`: rewrites the generated blocks; with --check it only says which are stale, by exit code 1.

import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { changedLines } from "./blocks.ts";
import { readGeneratedFiles } from "./generated.ts";
import { projectRoot } from "./project.ts";

const USAGE = "usage: npm run generate [-- --check]\n";

async function main(args: readonly string[]): Promise<number> {
  if (args.some((arg) => arg !== "--check")) {
    process.stderr.write(USAGE);
    return 2;
  }
  const root = projectRoot();
  const stale = (await readGeneratedFiles(root)).filter(({ current, fresh }) => current !== fresh);
  if (args.length > 0) {
    for (const { path, current, fresh } of stale) {
      process.stderr.write(`${path} is stale; \`npm run generate\` makes it fresh:\n`);
      process.stderr.write(`${changedLines(current, fresh).join("\n")}\n`);
    }
    return stale.length > 0 ? 1 : 0;
  }
  for (const { path, fresh } of stale) {
    await writeFile(join(root, path), fresh);
    process.stdout.write(`${path} rewritten\n`);
  }
  return 0;
}

process.exitCode = await main(process.argv.slice(2));
