// Accounts: what each proxy's access-log streams brought, for /api/v1/receivers. Counting is adding to a plain number.

import type { LabelReason, UnknownEnds } from "../record/unknown-peers.ts";
import type { DropReason, STREAM_ENDS } from "../self.ts";
import { type EntryDelay, newDelay } from "./entry-delay.ts";

type Ended = (typeof STREAM_ENDS)[number];

/** Entries of one kind that were taken, by where their labels came from. */
export interface Taken {
  observation: number;
  derived: number;
}

/** What is read of a ProxyAccount; plain, so that it can go from thread to thread. */
export type ProxyCounts = Readonly<Omit<ProxyAccount, "addNotTaken" | "addEnded" | "fail">>;

/** What is read of all of them. */
export interface Accounts {
  readonly named: Iterable<ProxyCounts>;
  readonly unnamed: ProxyCounts;
  readonly beyondLimit: ProxyCounts;
}

/** One proxy's, since the collector started; or since the proxy made room for others and came again. Times are Unix ms, 0 for never. */
export class ProxyAccount {
  openStreams = 0;
  /** Since when it has had a stream open without a break. */
  connectedSinceMs = 0;
  lastEntryMs = 0;
  readonly delay: EntryDelay = newDelay();
  readonly http: Taken = { observation: 0, derived: 0 };
  readonly tcp: Taken = { observation: 0, derived: 0 };
  /** Entries taken in whose label set this end is `unknown`, by why. */
  readonly unknownSource: Partial<Record<LabelReason, number>> = {};
  readonly unknownDestination: Partial<Record<LabelReason, number>> = {};
  readonly notTaken: Partial<Record<DropReason, number>> = {};
  readonly ended: Partial<Record<Ended, number>> = {};
  lastEnded: Ended | null = null;
  lastError: { readonly text: string; readonly atMs: number } | null = null;

  /** `proxy`: the node id; "" for an account of proxies that are not told apart. */
  constructor(readonly proxy: string) {}

  addNotTaken(reason: DropReason, count: number): void {
    this.notTaken[reason] = (this.notTaken[reason] ?? 0) + count;
  }

  addUnknown({ source, destination }: UnknownEnds): void {
    if (source !== null) this.unknownSource[source] = (this.unknownSource[source] ?? 0) + 1;
    if (destination !== null) this.unknownDestination[destination] = (this.unknownDestination[destination] ?? 0) + 1;
  }

  addEnded(how: Ended): void {
    this.ended[how] = (this.ended[how] ?? 0) + 1;
    this.lastEnded = how;
  }

  fail(text: string): void {
    this.lastError = { text, atMs: Date.now() };
  }
}

/** What every account of streams has. */
export interface StreamAccount {
  /** Node id; "" where proxies are not told apart. */
  readonly proxy: string;
  openStreams: number;
  /** Unix ms; 0 without an open stream. */
  connectedSinceMs: number;
}

/** The accounts of at most `limit` proxies. Beyond it, the proxy whose last stream ended first makes room for another. */
export class StreamAccounts<Account extends StreamAccount> {
  /** Of streams that have named no node (yet). */
  readonly unnamed: Account;
  /** Of all proxies for which there was no room: as many others had a stream open. */
  readonly beyondLimit: Account;
  private readonly open = new Map<string, Account>();
  /** Those without a stream, longest first. */
  private readonly idle = new Map<string, Account>();

  constructor(
    private readonly limit: number,
    private readonly create: (proxy: string) => Account,
  ) {
    this.unnamed = create("");
    this.beyondLimit = create("");
  }

  get named(): Account[] {
    return [...this.open.values(), ...this.idle.values()];
  }

  /** The account to which one more stream belongs from now on; "" names no proxy. */
  enter(proxy: string): Account {
    const account = proxy === "" ? this.unnamed : this.find(proxy);
    if (account.openStreams === 0) account.connectedSinceMs = Date.now();
    account.openStreams++;
    return account;
  }

  /** That stream belongs to it no more. */
  leave(account: Account): void {
    account.openStreams--;
    if (account.openStreams > 0) return;
    account.connectedSinceMs = 0;
    if (!this.open.delete(account.proxy)) return; // one of the two without a name
    this.idle.set(account.proxy, account);
  }

  private find(proxy: string): Account {
    const known = this.open.get(proxy);
    if (known) return known;
    const account = this.idle.get(proxy) ?? this.admit(proxy);
    if (account === this.beyondLimit) return account;
    this.idle.delete(proxy);
    this.open.set(proxy, account);
    return account;
  }

  private admit(proxy: string): Account {
    if (this.open.size + this.idle.size < this.limit) return this.create(proxy);
    const [longestIdle] = this.idle.keys();
    if (longestIdle === undefined) return this.beyondLimit;
    this.idle.delete(longestIdle);
    return this.create(proxy);
  }
}

/** Those of access-log streams. */
export class ProxyAccounts extends StreamAccounts<ProxyAccount> implements Accounts {
  constructor(limit: number) {
    super(limit, (proxy) => new ProxyAccount(proxy));
  }
}
