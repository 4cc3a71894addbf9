import { describe, expect, test } from "vitest";
import { collectorConfig, readListening } from "../../demo/collector-process.ts";

describe("readListening", () => {
  test("reads the addresses out of the collector's log line", () => {
    const line =
      '{"level":"info","component":"main","grpc":"127.0.0.1:11800","http":"127.0.0.1:12800","msg":"listening"}';
    expect(readListening(line)).toEqual({ grpc: "127.0.0.1:11800", http: "127.0.0.1:12800" });
  });

  test.each(['{"msg":"scraped"}', "listening", '"listening"', '{"msg":"listening","grpc":1}'])(
    "takes %s for none",
    (line) => {
      expect(readListening(line)).toBeNull();
    },
  );
});

test("the collector listens on loopback only and scrapes what it is told", () => {
  expect(collectorConfig({ grpc: 0, http: 12800 }, ["127.0.7.10:15000"])).toEqual({
    grpc: { address: "127.0.0.1:0" },
    http: { address: "127.0.0.1:12800" },
    scrape: { interval: "1s", targets: ["127.0.7.10:15000"] },
    proxy_stats: { enabled: true },
    log: { level: "info" },
  });
});
