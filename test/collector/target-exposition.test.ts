import { expect, it } from "vitest";
import { renderTargets } from "../../collector/receiver/scrape/exposition.ts";
import type { ScrapeStatus } from "../../collector/receiver/scrape.ts";

function status(some: Partial<ScrapeStatus>): ScrapeStatus {
  const unread = {
    proxy: null,
    result: null,
    atMs: 0,
    okAtMs: 0,
    detail: "",
    logsWritten: null,
    logsDropped: null,
    missingBounds: {},
  };
  return { target: "http://a:15000", ...unread, ...some };
}

const samples = (...statuses: ScrapeStatus[]) =>
  [...renderTargets(statuses)]
    .join("")
    .split("\n")
    .filter((line) => line !== "" && !line.startsWith("# HELP"));

it.each<[string, Partial<ScrapeStatus>, string[]]>([
  ["a target that was not read has none", {}, []],
  [
    "one whose last reading failed has the time of the last good one",
    { proxy: "p", result: "timeout", atMs: 9000, okAtMs: 1500 },
    [
      "# TYPE meshtally_target_last_scrape_timestamp_seconds gauge",
      'meshtally_target_last_scrape_timestamp_seconds{target="http://a:15000",proxy="p"} 1.5',
    ],
  ],
  [
    "one without filter has what its loggers say, whatever it calls itself",
    { proxy: 'p"\\\n', result: "no_start_time", atMs: 9000, logsWritten: 7, logsDropped: 2 },
    [
      "# TYPE meshtally_target_access_log_entries_total counter",
      'meshtally_target_access_log_entries_total{target="http://a:15000",proxy="p\\"\\\\\\n",how="written"} 7',
      'meshtally_target_access_log_entries_total{target="http://a:15000",proxy="p\\"\\\\\\n",how="dropped"} 2',
    ],
  ],
])("%s", (_case, some, expected) => {
  expect(samples(status(some))).toEqual(expected);
});

it("each family has one header, however many targets there are", () => {
  const all = Array.from({ length: 2000 }, (_, i) => status({ target: `t${i}`, okAtMs: 1000, logsWritten: 1 }));
  const pieces = [...renderTargets(all)];
  expect(pieces.length).toBeGreaterThan(2);
  expect(pieces.join("").match(/# TYPE/g)).toHaveLength(2);
  expect(samples(...all)).toHaveLength(2 + 3 * all.length);
});
