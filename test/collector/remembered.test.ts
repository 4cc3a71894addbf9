import { expect, test } from "vitest";
import { Remembered } from "../../collector/record/remembered.ts";

test("remembers the newest ids, as many as a generation at least and two at most", () => {
  const ids = new Remembered(3);
  expect(["a", "b", "a", "c", "d", "a"].map((id) => ids.add(id))).toEqual([false, false, true, false, false, true]);
  for (const id of ["e", "f"]) ids.add(id);
  expect(["a", "b", "c", "d", "e", "f"].filter((id) => ids.has(id))).toEqual(["a", "b", "c", "d", "e", "f"]);
  ids.add("g");
  expect(["a", "b", "c", "d", "e", "f", "g"].filter((id) => ids.has(id))).toEqual(["d", "e", "f", "g"]);
});
