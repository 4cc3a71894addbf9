// What reflection tells is what the .proto files say. `npx vitest run -u test/contract/descriptors.test.ts` renews it.

import { resolve } from "node:path";
import { expect, test } from "vitest";
import { encodeDescriptors } from "../fixtures/descriptors.ts";

const PATH = resolve(import.meta.dirname, "../../collector/receiver/descriptors.ts");

test("collector/receiver/descriptors.ts is what the .proto files say", async () => {
  const lines = encodeDescriptors().map((bytes) => `  "${bytes.toString("base64")}",\n`);
  const text = [
    "// FileDescriptorProtos of the services of the gRPC port, in base64. Made by test/contract/descriptors.test.ts; do not edit.\n",
    "\n",
    `export const DESCRIPTORS: readonly string[] = [\n${lines.join("")}];\n`,
  ].join("");
  await expect(text).toMatchFileSnapshot(PATH);
});
