// Whatever there is room for, a connection is told once, and all its bytes are.

import { describe, expect, it } from "vitest";
import { ConnectionBytes } from "../../collector/analysis/connection-bytes.ts";

const HOUR_MS = 3_600_000;
const bytes = (received: number) => ({ received, sent: 0 });

describe("ConnectionBytes", () => {
  it("tells each connection once, and no byte twice, however many more there are than room", () => {
    const connections = new ConnectionBytes(() => 1000, 3);
    let told = 0;
    let received = 0;
    for (let round = 1; round <= 5; round++) {
      for (let id = 0; id < 10; id++) {
        const { isFirst, gained } = connections.take(`c${id}`, 1000, bytes(round), round === 5);
        if (isFirst) told++;
        received += gained?.received ?? 0;
      }
    }
    expect({ told, received }).toEqual({ told: 10, received: 50 });
  });

  it("tells one that waited whole as soon as there is room", () => {
    const connections = new ConnectionBytes(() => 1000, 1);
    connections.take("a", 1000, bytes(1), false);
    expect(connections.take("b", 1000, bytes(2), false)).toMatchObject({ isFirst: false, gained: null });
    connections.take("a", 1000, bytes(1), true);
    expect(connections.take("b", 1000, bytes(3), false)).toMatchObject({ isFirst: true, gained: bytes(3) });
    expect(connections.take("b", 1000, bytes(7), true)).toMatchObject({ isFirst: false, gained: bytes(4) });
  });

  it("gives the room of those that ended without a word to others", () => {
    let nowMs = 1000;
    const connections = new ConnectionBytes(() => nowMs, 1);
    connections.take("a", 1000, bytes(1), false);
    nowMs += HOUR_MS;
    expect(connections.take("b", nowMs, bytes(2), false)).toMatchObject({ isFirst: true, gained: bytes(2) });
  });

  it("counts one without an id at its end alone", () => {
    const connections = new ConnectionBytes(() => 1000);
    const news = [false, false, true].map((isOver) => connections.take("", 1000, bytes(1), isOver).isFirst);
    expect(news).toEqual([false, false, true]);
  });
});
