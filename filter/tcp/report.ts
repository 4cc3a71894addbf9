// What is reported of a TCP connection, and when: that it was opened as soon as its peer is known, or known to be absent, or is waited for
// no longer; its bytes then, every reporting interval and at the end; and that it was closed.
//
// Its labels are those of the first report. Should its peer become known only later, the bytes from then on are counted under the peer's
// labels, and what was opened under the first ones is closed under them.

import * as arena from "../arena.ts";
import { Config } from "../config/config.ts";
import { Contexts } from "../context.ts";
import { countFault, readNumber, setEffectiveContext, utf8 } from "../host.ts";
import { LabelSet } from "../label-set.ts";
import { evaluate } from "../report.ts";
import { Request } from "../request.ts";
import { Role } from "../role.ts";
import { Root } from "../root.ts";
import { countOwnMetrics, countTcp, labelSetOfConnection } from "../stat.ts";
import { Fault, TcpMetric } from "../vocabulary/metrics.ts";
import { Connection } from "./connection.ts";
import { dueOf } from "./due.ts";
import { giveUp } from "./exchange.ts";
import { Way } from "./head.ts";
import { leaveConnection, leaveNothingYet } from "./observation.ts";
import { Link } from "./queue.ts";

const CONNECTION_ID = utf8("connection\0id");
/** What Envoy counts itself: the prefix, and what waited, included. */
const RECEIVED = utf8("request\0size");
const SENT = utf8("response\0size");

const facts = new Request();

/** Bytes of a connection pass, and its peer may have told who it is. Called in one of the connection's data callbacks. */
export function noteProgress(connection: Connection, config: Config, received: u64, sent: u64): void {
  const isReported = connection.set !== null;
  if (isReported && isPeerNews(connection, config)) reportPeer(connection, config);
  connection.received += received;
  connection.sent += sent;
  noteBytes(connection);
}

/** After bytes of a connection passed: there is something to report at the next interval. Called in one of its data callbacks. */
export function noteBytes(connection: Connection): void {
  if (connection.set === null) reportIfDecided(connection);
  else if (!connection.report.isWaiting) dueOf(connection.rootId).changed.add(connection.report, 0);
}

/** A connection that was waited for in vain, since its labels cannot be known in a tick, waits no longer either. */
function reportIfDecided(connection: Connection): void {
  const config = changetype<Root>(connection.root).config;
  if (!connection.report.isWaiting || isPeerDecided(connection, config)) reportOpened(connection, config, false);
}

/** A connection begins. */
export function expect(connection: Connection): void {
  dueOf(connection.rootId).unreported.add(connection.report, changetype<Root>(connection.root).deadlineMs());
  leaveNothingYet();
}

/** Everything that is due of a root's connections. Called in its tick. */
export function reportConnections(root: Root, connections: Contexts<Connection>, isReportDue: bool): void {
  const due = dueOf(root.id);
  for (let next = due.holding.first; next !== null && root.isDue(next.deadlineMs); next = due.holding.first) {
    const connection = entered(next, connections);
    if (connection === null) continue;
    if (connection.set !== null) noteBytes(connection); // what goes on now is to be reported
    giveUp(connection);
  }
  for (let next = due.unreported.first; next !== null && root.isDue(next.deadlineMs); next = due.unreported.first) {
    const connection = entered(next, connections);
    // A connection whose labels cannot be known in a tick waits for its next bytes or its end.
    if (connection !== null) reportOpened(connection, root.config, true);
  }
  if (!isReportDue) return;
  for (let next = due.changed.first; next !== null; next = due.changed.first) {
    const connection = entered(next, connections);
    if (connection !== null && connection.hasNewBytes) reportBytes(connection);
  }
}

/** Takes a link out of its queue and enters its connection, as if that were called back alone. */
function entered(link: Link, connections: Contexts<Connection>): Connection | null {
  arena.reset();
  link.leave();
  return setEffectiveContext(link.owner) ? connections.find(link.owner) : null;
}

/** Everything of a connection that is over. Its filter states reach the access loggers. */
export function reportClosed(connection: Connection, config: Config): void {
  connection.report.leave();
  const custom = config.custom;
  if (connection.set === null) reportOpened(connection, config, false);
  else if (custom !== null) evaluate(custom, connection);
  const set = connection.set;
  if (set === null) return;
  countBytes(connection);
  countTcp(set, TcpMetric.Closed, 1);
  // Another configuration may define others.
  if (custom !== null && connection.configSerial === config.serial) countOwnMetrics(set, custom);
  leaveConnection(connection, true);
}

/** A connection of which nothing is known but that it is over: its bytes are Envoy's own count. */
export function reportUnknown(connection: Connection, config: Config): void {
  connection.received = readNumber(RECEIVED, 0);
  connection.sent = readNumber(SENT, 0);
  reportClosed(connection, config);
}

/** Whether more bytes would tell nothing more of the peers: on a server those of the downstream, on a client those of the upstream. */
function isPeerDecided(connection: Connection, config: Config): bool {
  const role = connection.role(config);
  if (role === Role.Inbound) return connection.downstream.way === Way.Open;
  if (role === Role.Waypoint && connection.downstream.way !== Way.Open) return false;
  return connection.upstream.way === Way.Open || (connection.upstream.way !== Way.New && !connection.isAsking);
}

/** Whether a peer became known after the first report, and no other will. */
function isPeerNews(connection: Connection, config: Config): bool {
  const news = connection.peers & ~connection.reportedPeers & peersOf(connection.role(config));
  return news !== 0 && connection.laterSet === null && isPeerDecided(connection, config);
}

/** The peers that the labels speak of: bits, as in Connection. */
function peersOf(role: Role): i32 {
  if (role === Role.Waypoint) return 3;
  return role === Role.Inbound ? 1 : 2;
}

function reportOpened(connection: Connection, config: Config, isTick: bool): void {
  const set = readLabelSet(connection, config, isTick);
  if (set === null) return;
  connection.report.leave();
  connection.set = set;
  connection.configSerial = config.serial;
  connection.number = readNumber(CONNECTION_ID, 0);
  countTcp(set, TcpMetric.Opened, 1);
  reportBytes(connection);
}

/** The peer is known at last: what was carried so far stays where it was counted. */
function reportPeer(connection: Connection, config: Config): void {
  countBytes(connection);
  connection.receivedBefore = connection.received;
  connection.sentBefore = connection.sent;
  connection.laterSet = readLabelSet(connection, config, false);
  countFault(Fault.PeerLate);
  noteBytes(connection);
}

/** Null when the labels cannot be known in a tick. */
function readLabelSet(connection: Connection, config: Config, isTick: bool): LabelSet | null {
  const custom = config.custom;
  if (custom !== null && !isTick) evaluate(custom, connection);
  facts.readConnection(connection, config);
  const set = labelSetOfConnection(facts, config, isTick);
  if (set === null) return null;
  connection.reportedPeers = connection.peers;
  connection.forgetPeers();
  return set;
}

function reportBytes(connection: Connection): void {
  countBytes(connection);
  leaveConnection(connection, false);
}

/** Adds what passed since the last report. Adding 0 makes the series known. */
function countBytes(connection: Connection): void {
  const set = connection.byteSet;
  if (set === null) return;
  countTcp(set, TcpMetric.SentBytes, connection.sent - connection.reportedSent);
  countTcp(set, TcpMetric.ReceivedBytes, connection.received - connection.reportedReceived);
  connection.reportedSent = connection.sent;
  connection.reportedReceived = connection.received;
}
