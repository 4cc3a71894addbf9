// GET /api/v1/receivers: what comes from whom, and a word on what does not. "I configured it, and there is nothing to see."

import { roleOf } from "../analysis/role.ts";
import { type CompletenessReading, type ProxyCompared, ratiosOf } from "../completeness/compared.ts";
import type { OtlpLogCounts } from "../otlp/logs.ts";
import type { Accounts, ProxyCounts, Taken } from "../receiver/accounts.ts";
import { readDelay } from "../receiver/entry-delay.ts";
import type { MetricsAccount, MetricsAccounts } from "../receiver/metrics-accounts.ts";
import type { ScrapeStatus } from "../receiver/scrape.ts";
import { type Answer, renderRatios } from "./api.ts";

/** One answer has at most so many proxies: some 10 MB. */
const MAX_ROWS = 10_000;

/** By so much clocks may differ without a word; and access loggers keep entries back for no longer. */
const MAX_AHEAD_MS = 1000;
const MAX_BEHIND_MS = 30_000;

/** All sentences of `hint`; docs/api.md explains each. */
export const HINTS = {
  noAccessLog: "It is scraped, and has sent no access log.",
  metricsAlone: "It reports to the metrics service, and has sent no access log.",
  noLogger: "Its stats show no entry that a gRPC access logger wrote.",
  logsElsewhere: "Its access logger writes entries, and none comes here.",
  brokenOff: "Its last access-log stream broke off, and it has opened none since.",
  noEntry: "It has opened an access-log stream, and sent no entry.",
  noneTaken: "None of its entries was taken.",
  noObservation: "None of its entries has an observation of the filter.",
  clockAhead: "Its clock is ahead of ours.",
  clockBehind: "Its clock is behind ours, or its access logger keeps entries back for long.",
  notScraped: "It sends access logs, and is not scraped.",
  sameName: "Several targets have this node id.",
  notScrapedYet: "It was not scraped yet.",
  noFilter: "Its stats show no filter.",
  scrapeFailed: "Its last scrape came to nothing.",
  dropped: "It dropped access-log entries itself.",
  noReportTaken: "None of its metrics reports was taken.",
  looksLikeDeltas: "Its counters look like deltas, which it does not say.",
  looksCumulative: "Its counters are said to be deltas, and do not look like it.",
  missingBounds: "Its histograms are not counted by all of metrics.bounds.",
} as const;
type Hint = keyof typeof HINTS;

/** Scrapes that ended so have read the target's stats. */
const IS_READ: ReadonlySet<string> = new Set(["ok", "no_start_time", "no_filter"]);

/** What all sources know. */
export interface Sources {
  readonly accounts: Accounts;
  readonly scrapes: readonly ScrapeStatus[];
  readonly otlp: OtlpLogCounts;
  readonly metrics: MetricsAccounts;
  readonly completeness: CompletenessReading;
}

/** What is known of one proxy; any may be missing, not all. */
interface Sender {
  /** Null when it has not said who it is. */
  readonly proxy: string | null;
  readonly account: ProxyCounts | null;
  readonly scrapes: readonly ScrapeStatus[];
  readonly metrics: MetricsAccount | null;
}

/** GET /api/v1/receivers?proxy=TEXT: those whose node id has TEXT in it; by default all. */
export function readReceivers(sources: Sources, query: URLSearchParams, maxRows = MAX_ROWS): Answer {
  const text = query.get("proxy") ?? "";
  const senders = [...sendersOf(sources)].filter(({ proxy }) => text === "" || proxy?.includes(text));
  senders.sort(byProxy);
  const { accounts, otlp, metrics, completeness } = sources;
  const compared = new Map(completeness.proxies.map((each) => [each.proxy, each]));
  const body = {
    proxies: senders.slice(0, maxRows).map((sender) => renderSender(sender, compared.get(sender.proxy ?? "") ?? null)),
    left_out: Math.max(0, senders.length - maxRows),
    unnamed: renderAccount(accounts.unnamed),
    beyond_limit: renderAccount(accounts.beyondLimit),
    metrics_unnamed: renderMetrics(metrics.unnamed),
    metrics_beyond_limit: renderMetrics(metrics.beyondLimit),
    otlp_logs: {
      accepted: otlp.accepted,
      rejected: otlp.rejected,
      with_unknown_attributes: otlp.withUnknownAttributes,
      unknown_attributes: otlp.unknownAttributes,
    },
  };
  return { status: 200, body };
}

function* sendersOf({ accounts, scrapes, metrics }: Sources): Generator<Sender> {
  const scrapesOf = new Map<string, ScrapeStatus[]>();
  for (const scrape of scrapes) {
    if (scrape.proxy === null) yield { proxy: null, account: null, scrapes: [scrape], metrics: null };
    else scrapesOf.set(scrape.proxy, [...(scrapesOf.get(scrape.proxy) ?? []), scrape]);
  }
  const accountOf = new Map([...accounts.named].map((account) => [account.proxy, account]));
  const metricsOf = new Map(metrics.named.map((account) => [account.proxy, account]));
  for (const proxy of new Set([...accountOf.keys(), ...scrapesOf.keys(), ...metricsOf.keys()])) {
    const account = accountOf.get(proxy) ?? null;
    yield { proxy, account, scrapes: scrapesOf.get(proxy) ?? [], metrics: metricsOf.get(proxy) ?? null };
  }
}

/** By node id; those without one last, by target. */
function byProxy(a: Sender, b: Sender): number {
  if (a.proxy === null || b.proxy === null) {
    if (a.proxy !== b.proxy) return a.proxy === null ? 1 : -1;
    return compare(a.scrapes[0]?.target ?? "", b.scrapes[0]?.target ?? "");
  }
  return compare(a.proxy, b.proxy);
}

function compare(a: string, b: string): number {
  return a < b ? -1 : Number(a > b);
}

function renderSender(sender: Sender, compared: ProxyCompared | null): object {
  const { proxy, account, scrapes, metrics } = sender;
  return {
    proxy,
    role: proxy === null ? null : roleOf(proxy),
    access_log: account === null ? null : renderAccount(account),
    scrapes: scrapes.map(renderScrape),
    completeness: compared === null ? null : renderRatios(ratiosOf(compared)),
    metrics_service: metrics === null ? null : renderMetrics(metrics),
    hint: hintOf(sender),
  };
}

function renderAccount(account: ProxyCounts): object {
  const { http, tcp, lastError } = account;
  return {
    streams: account.openStreams,
    connected_since: time(account.connectedSinceMs),
    streams_ended: account.ended,
    last_entry: time(account.lastEntryMs),
    entry_delay_ms: delayOf(account),
    entries: { http: { ...http }, tcp: { ...tcp } },
    entries_not_taken: account.notTaken,
    unknown_source: { ...account.unknownSource },
    unknown_destination: { ...account.unknownDestination },
    last_error: lastError === null ? null : { text: lastError.text, time: time(lastError.atMs) },
  };
}

function renderScrape(status: ScrapeStatus): object {
  const { target, result, atMs, okAtMs, detail, logsWritten, logsDropped, missingBounds } = status;
  return {
    target,
    result,
    time: time(atMs),
    last_ok: time(okAtMs),
    error: detail === "" ? null : detail,
    logs_written: logsWritten,
    logs_dropped: logsDropped,
    missing_bounds: missingBounds,
  };
}

function renderMetrics(account: MetricsAccount): object {
  const { lastError } = account;
  return {
    streams: account.openStreams,
    connected_since: time(account.connectedSinceMs),
    streams_ended: account.ended,
    last_report: time(account.lastReportMs),
    reports: account.reports,
    reports_not_taken: account.notTaken,
    label_sets: account.labelSets,
    counters: account.counters,
    missing_bounds: account.missingBounds,
    last_error: lastError === null ? null : { text: lastError.text, time: time(lastError.atMs) },
  };
}

function delayOf({ delay }: ProxyCounts): object | null {
  const range = readDelay(delay, Date.now());
  return range === null ? null : { least: range.leastMs, most: range.mostMs };
}

/** RFC 3339 of Unix ms; null for 0, never. */
function time(ms: number): string | null {
  return ms === 0 ? null : new Date(ms).toISOString();
}

/** What an operator should know or do, in sentences; null when all is as it should be. */
function hintOf(sender: Sender): string | null {
  const hints = [...accessLogHints(sender), ...scrapeHints(sender), ...metricsHints(sender), ...boundsHints(sender)];
  return hints.length === 0 ? null : hints.map((hint) => HINTS[hint]).join(" ");
}

function* accessLogHints({ account, scrapes }: Sender): Generator<Hint> {
  if (account === null) {
    yield scrapes.length === 0 ? "metricsAlone" : "noAccessLog";
    if (scrapes.some(({ logsWritten }) => logsWritten !== null)) yield "logsElsewhere";
    else if (scrapes.some(({ result }) => result !== null && IS_READ.has(result))) yield "noLogger";
    return;
  }
  const { observation, derived } = taken(account);
  if (account.openStreams === 0 && account.lastEnded === "broken_off") yield "brokenOff";
  if (account.lastEntryMs === 0) yield "noEntry";
  else if (observation + derived === 0) yield "noneTaken";
  else if (observation === 0) yield "noObservation";
  yield* clockHints(account);
}

function* clockHints({ delay }: ProxyCounts): Generator<Hint> {
  const { leastMs } = readDelay(delay, Date.now()) ?? { leastMs: 0 };
  if (leastMs < -MAX_AHEAD_MS) yield "clockAhead";
  if (leastMs > MAX_BEHIND_MS) yield "clockBehind";
}

function* metricsHints({ metrics }: Sender): Generator<Hint> {
  if (metrics === null) return;
  if (metrics.reports === 0 && Object.keys(metrics.notTaken).length > 0) yield "noReportTaken";
  if (metrics.isFormDoubted) yield metrics.counters === "delta" ? "looksCumulative" : "looksLikeDeltas";
}

function* scrapeHints({ scrapes, metrics }: Sender): Generator<Hint> {
  if (scrapes.length === 0 && (metrics?.reports ?? 0) === 0) yield "notScraped";
  if (scrapes.length > 1) yield "sameName";
  const results = scrapes.map(({ result }) => result);
  if (results.includes(null)) yield "notScrapedYet";
  if (results.includes("no_start_time")) yield "noFilter";
  if (results.some((result) => result !== null && !IS_READ.has(result))) yield "scrapeFailed";
  if (scrapes.some(({ logsDropped }) => (logsDropped ?? 0) > 0)) yield "dropped";
}

function* boundsHints({ scrapes, metrics }: Sender): Generator<Hint> {
  const missing = [...scrapes, ...(metrics === null ? [] : [metrics])].map(({ missingBounds }) => missingBounds);
  if (missing.some((bounds) => Object.keys(bounds).length > 0)) yield "missingBounds";
}

function taken({ http, tcp }: ProxyCounts): Taken {
  return { observation: http.observation + tcp.observation, derived: http.derived + tcp.derived };
}
