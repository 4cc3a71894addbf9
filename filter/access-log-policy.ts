// Whether a finished request is worth an entry of the access log: left as filter state, which a logger obeys by a filter. Errors and
// slow requests are, the rest once per client and window.

import { AccessLogConfig } from "./config/access-log.ts";
import { noteColdWork } from "./garbage.ts";
import { nowMs, readProperty, setFilterState, utf8 } from "./host.ts";
import { DOWNSTREAM_PEER_SAN, NOT_FINISHED, Request, Slice } from "./request.ts";
import { declareText } from "./state-type.ts";
import { Table } from "./table.ts";
import { ACCESS_LOG_NO, ACCESS_LOG_POLICY, ACCESS_LOG_YES } from "./vocabulary/peer-metadata.ts";
import { bytesOf } from "./wire/bytes.ts";

const SOURCE_ADDRESS = utf8("source\0address");
const POLICY = utf8(ACCESS_LOG_POLICY);
const YES = bytesOf(ACCESS_LOG_YES);
const NO = bytesOf(ACCESS_LOG_NO);

const FIRST_ERROR: u64 = 400;

/** Room for clients at first; doubled when they are more. */
const FIRST_CLIENTS = 512;

@final
class Client {
  constructor(public loggedAtMs: u64) {}
}

/** Of all configurations of this VM, so that a new one does not log every client anew. */
let clients = new Table<Client>(FIRST_CLIENTS);

const address = new Slice();
const principal = new Slice();
/** Address, NUL, principal. */
const KEY: usize = memory.data(1032, 8);

/** Tells Envoy that the state is text. Call in proxy_on_configure. */
export function declareAccessLogPolicy(): void {
  declareText(ACCESS_LOG_POLICY);
}

/** Says `yes` or `no` to the access loggers of the current stream, which is over. */
export function decideAccessLog(request: Request, config: AccessLogConfig): void {
  const isKept = isNotable(request, config.slowMs) || isDue(request, config);
  setFilterState(POLICY, isKept ? YES : NO);
}

/** Whether it failed, was slow or never ended. */
function isNotable(request: Request, slowMs: u64): bool {
  if (request.code >= FIRST_ERROR || request.code === 0 || request.flags !== 0) return true;
  if (request.isGrpc && request.grpcStatus !== 0) return true;
  if (request.durationMs === NOT_FINISHED) return true;
  return slowMs > 0 && request.durationMs >= slowMs;
}

/** Whether this client's last entry is a window old, or there was none; then this is it. */
function isDue(request: Request, config: AccessLogConfig): bool {
  const size = writeKey(request);
  const now = nowMs();
  const known = clients.find(KEY, size);
  if (known === null) {
    addClient(size, now, config.maxClients);
    return true;
  }
  // A clock that was set back makes the difference huge, and the client due.
  if (now - known.loggedAtMs < config.windowMs) return false;
  known.loggedAtMs = now;
  return true;
}

/** When there are too many, the oldest quarter goes: nothing is lost by it, those clients are logged once more. */
function addClient(size: usize, now: u64, maxClients: i32): void {
  noteColdWork();
  if (clients.count >= maxClients) clients.keepNewest(maxClients - (maxClients + 3) / 4);
  if (clients.isFull) clients = clients.doubled();
  clients.add(KEY, size, new Client(now));
}

/** Writes who the client is to KEY and returns its size. */
function writeKey(request: Request): usize {
  address.take(readProperty(SOURCE_ADDRESS));
  // Of the connection's other end, which is the peer only where the hop in front is reported.
  if (!request.isServer) principal.take(readProperty(DOWNSTREAM_PEER_SAN));
  const who = request.isServer ? request.peerPrincipal : principal;
  const addressSize = sizeWithoutPort(address);
  memory.copy(KEY, address.ptr, addressSize);
  store<u8>(KEY + addressSize, 0);
  memory.copy(KEY + addressSize + 1, who.ptr, who.size);
  return addressSize + 1 + who.size;
}

/** `10.0.0.1` of `10.0.0.1:1234`, `[::1]` of `[::1]:1234`; a path stays as it is. */
function sizeWithoutPort(text: Slice): usize {
  let size = text.size;
  while (size > 0 && isDigit(load<u8>(text.ptr + size - 1))) size--;
  const isColon = size > 0 && load<u8>(text.ptr + size - 1) === 0x3a;
  return isColon ? size - 1 : text.size;
}

function isDigit(byte: u8): bool {
  return byte >= 0x30 && byte <= 0x39;
}
