import { expect, it } from "vitest";
import { createLog } from "../../collector/log.ts";

function lines(
  level: "info" | "warn" | "error" | "silent",
  write: (log: ReturnType<typeof createLog>) => void,
): object[] {
  const written: string[] = [];
  write(createLog("scrape", { level, sink: { write: (line) => written.push(line) } }));
  return written.map((line) => JSON.parse(line));
}

it("a line is one JSON object with level as a word, ISO time, component, fields and message", () => {
  const [line] = lines("info", (log) => log.info({ target: "127.0.0.1:9901" }, "unreachable"));
  expect(line).toEqual({
    level: "info",
    time: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/),
    component: "scrape",
    target: "127.0.0.1:9901",
    msg: "unreachable",
  });
});

it("an error under `err` is written with type, message and stack", () => {
  const [line] = lines("info", (log) => log.error({ err: new TypeError("boom") }, "failed"));
  expect(line).toMatchObject({
    level: "error",
    err: { type: "TypeError", message: "boom", stack: expect.any(String) },
  });
});

it.each([
  ["info", ["info", "warn", "error"]],
  ["warn", ["warn", "error"]],
  ["error", ["error"]],
  ["silent", []],
] as const)("at level %s it writes %j", (level, expected) => {
  const written = lines(level, (log) => {
    log.info({}, "a");
    log.warn({}, "b");
    log.error({}, "c");
  });
  expect(written.map((line) => (line as { level: string }).level)).toEqual(expected);
});
