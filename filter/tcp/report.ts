// What is reported of a TCP connection, and when: that it was opened as soon as its peer is known, or known to be absent, or is waited for
// no longer; its bytes then, every reporting interval and at the end; and that it was closed.
//
// Its labels are those of the first report. Should its peer become known only later, the bytes from then on are counted under the peer's
// labels, and what was opened under the first ones is closed under them.

import * as arena from "../arena.ts";
import { Config } from "../config/config.ts";
import { countFault, readNumber, setEffectiveContext, utf8 } from "../host.ts";
import { LabelSet } from "../label-set.ts";
import { evaluate } from "../report.ts";
import { Request } from "../request.ts";
import { Role } from "../role.ts";
import { Root } from "../root.ts";
import { countOwnMetrics, countTcp, labelSetOfConnection } from "../stat.ts";
import { Fault, TcpMetric } from "../vocabulary/metrics.ts";
import { Connection, Way } from "./connection.ts";
import { Due, dueOf } from "./due.ts";
import { giveUp } from "./exchange.ts";
import { leaveConnection, leaveNothingYet } from "./observation.ts";

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
  else if (connection.queue === null) dueOf(connection.rootId).changed.add(connection);
}

/** A connection that was waited for in vain, since its labels cannot be known in a tick, waits no longer either. */
function reportIfDecided(connection: Connection): void {
  const config = changetype<Root>(connection.root).config;
  if (connection.queue === null || isPeerDecided(connection, config)) reportOpened(connection, config, false);
}

/** A connection begins. */
export function expect(connection: Connection): void {
  dueOf(connection.rootId).unreported.add(connection);
  leaveNothingYet();
}

/** Everything that is due of a root's connections. Called in its tick. */
export function reportConnections(root: Root, isReportDue: bool): void {
  const due = dueOf(root.id);
  const until = root.dueMs();
  letGo(due, root, until);
  for (let next = due.unreported.first; next !== null && next.deadlineMs <= until; next = due.unreported.first) {
    arena.reset(); // as if each connection were called back alone
    next.leaveQueue();
    // A connection whose labels cannot be known in a tick waits for its next bytes or its end.
    if (setEffectiveContext(next.id)) reportOpened(next, root.config, true);
  }
  if (!isReportDue) return;
  for (let next = due.changed.first; next !== null; next = due.changed.first) {
    arena.reset();
    next.leaveQueue();
    if (setEffectiveContext(next.id)) reportBytes(next, false);
  }
}

/** Everything of a connection that is over. Its filter states reach the access loggers. */
export function reportClosed(connection: Connection, config: Config): void {
  connection.leaveQueue();
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

/** Lets go what waited long enough. What is held anew meanwhile has another deadline. */
function letGo(due: Due, root: Root, until: u64): void {
  const holding = due.holding;
  if (holding.length === 0) return;
  due.holding = [];
  for (let i = 0; i < holding.length; i++) {
    const connection = holding[i];
    const isHeld = connection.heldDownstream > 0 || connection.heldUpstream !== null;
    if (connection.root !== root || !isHeld) continue;
    if (connection.holdUntilMs > until) due.holding.push(connection);
    else if (setEffectiveContext(connection.id)) giveUp(connection);
  }
}

/** Whether more bytes would tell nothing more of the peers: on a server those of the downstream, on a client those of the upstream. */
function isPeerDecided(connection: Connection, config: Config): bool {
  const role = connection.role(config);
  if (role === Role.Inbound) return connection.downstream === Way.Open;
  if (role === Role.Waypoint && connection.downstream !== Way.Open) return false;
  return connection.upstream === Way.Open;
}

/** Whether the peer became known after the first report, which had let go of what was known. */
function isPeerNews(connection: Connection, config: Config): bool {
  const role = connection.role(config);
  if (role === Role.Inbound) return connection.downstreamPeer !== null;
  return connection.upstreamPeer !== null || (role === Role.Waypoint && connection.downstreamPeer !== null);
}

function reportOpened(connection: Connection, config: Config, isTick: bool): void {
  const set = readLabelSet(connection, config, isTick);
  if (set === null) return;
  connection.leaveQueue();
  connection.set = set;
  connection.configSerial = config.serial;
  connection.number = readNumber(CONNECTION_ID, 0);
  countTcp(set, TcpMetric.Opened, 1);
  reportBytes(connection, true);
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

/** Null when the labels cannot be known in a tick. The peers are not needed any more then. */
function readLabelSet(connection: Connection, config: Config, isTick: bool): LabelSet | null {
  const custom = config.custom;
  if (custom !== null && !isTick) evaluate(custom, connection);
  facts.readConnection(connection, config);
  const set = labelSetOfConnection(facts, config, isTick);
  if (set !== null) connection.forgetPeers();
  return set;
}

function reportBytes(connection: Connection, isFirst: bool): void {
  if (!isFirst && !connection.hasNewBytes) return;
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
