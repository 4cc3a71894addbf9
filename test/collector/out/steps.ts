// What steps come to.

import type { Point, Step } from "../../../collector/out/point.ts";

export function* pointsOf(steps: Iterable<Step>): Generator<Point> {
  for (const point of steps) if (point !== null) yield point;
}
