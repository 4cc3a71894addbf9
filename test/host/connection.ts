// A TCP connection on its way through a network filter that stands before tcp_proxy: the callbacks in Envoy's order, and what comes
// out on either side.
//
//   client --fromClient--> [ downstream buffer: read, held or passed ] --toServer--> server
//   client <---toClient--- [ upstream buffer: read and passed        ] <-fromServer-- server

import type { DataBuffer } from "./buffer.ts";
import { type ConnectionView, findConnectionProperty } from "./connection-property.ts";
import { GuestFault } from "./memory.ts";
import type { CertificateUris, PropertyValue } from "./property.ts";
import type { JsonObject } from "./struct.ts";

/** Buffers, in the numbers of the ABI. */
const DOWNSTREAM = 2;
const UPSTREAM = 3;
const CONTINUE = 0;
const STOP_ITERATION = 1;
/** Who closed, in the numbers of the ABI. */
const CLOSED_BY = { unknown: 0, local: 1, remote: 2 } as const;
const NOTHING = Buffer.alloc(0);
/** No upstream host took the connection: UF, URX. */
const REFUSED_FLAGS = (1n << 5n) | (1n << 15n);

/** What Envoy knows of one connection. Absent parts read as plaintext between two addresses, to a cluster that says nothing. */
export interface ConnectionOptions {
  readonly sourceAddress?: string;
  readonly destinationAddress?: string;
  readonly upstreamAddress?: string;
  readonly requestedServerName?: string;
  readonly cluster?: { readonly name: string; readonly metadata?: JsonObject };
  readonly endpoint?: { readonly metadata?: JsonObject };
  readonly downstreamTls?: CertificateUris;
  readonly upstreamTls?: CertificateUris;
  /** The upstream connection does not stand yet when the first callback is over: `connect()` or `refuse()` follows. */
  readonly isConnecting?: boolean;
  /** Answers by path, dots between segments; undefined: NotFound. */
  readonly properties?: Readonly<Record<string, PropertyValue | undefined>>;
  readonly rootId?: number;
}

/** Runs the filter's callbacks; the Host. */
interface Caller {
  call(name: string, parameters: number[], stream: TcpConnection): number | undefined;
  setLive(stream: TcpConnection, isLive: boolean): void;
}

/** How far the connection has come. */
type Stage = "opening" | "connecting" | "connected" | "closed";

export class TcpConnection implements ConnectionView {
  readonly filterState = new Map<string, Buffer>();
  readonly overrides: ReadonlyMap<string, PropertyValue | undefined>;
  readonly isAccessLogger = false;
  isInTick = false;
  responseFlags = 0n;
  receivedBytes = 0n;
  sentBytes = 0n;
  /** Whether each side was told that the other has no more to say. */
  isServerToldEnd = false;
  isClientToldEnd = false;

  private stage: Stage = "opening";
  /** Whether the upstream connection stands, or once did. */
  private isConnected = false;
  /** What the client sent and the filter has not passed on. */
  private readonly downstream: DataBuffer = { bytes: NOTHING };
  private readonly passedToServer: Buffer[] = [];
  private readonly passedToClient: Buffer[] = [];
  /** Whether the filter holds it: then it sees it outside its data callback, too. */
  private isHolding = false;
  private isClientDone = false;
  private isServerDone = false;
  private isHandshakeOver = false;
  /** The buffer of the data callback that is running, and its number in the ABI. */
  private shown: { readonly type: number; readonly buffer: DataBuffer } | undefined;

  constructor(
    private readonly host: Caller,
    readonly id: number,
    readonly rootId: number,
    readonly connectionId: bigint,
    private readonly options: ConnectionOptions,
  ) {
    this.overrides = new Map(Object.entries(options.properties ?? {}));
  }

  /** The client is there; the upstream connection stands when the callbacks are over, unless `isConnecting`. */
  open(): this {
    this.host.setLive(this, true);
    this.host.call("proxy_on_context_create", [this.id, this.rootId], this);
    this.mustContinue("proxy_on_new_connection", [this.id]);
    this.stage = "connecting";
    return this.options.isConnecting === true ? this : this.connect();
  }

  /** The upstream connection stands: from now on there is data. */
  connect(): this {
    this.stage = "connected";
    this.isConnected = true;
    return this;
  }

  /** The client has sent these bytes, and with `end` its FIN. */
  fromClient(bytes: Buffer | string = NOTHING, { end = false } = {}): this {
    this.mustCarry(this.isClientDone);
    this.isClientDone = end;
    this.isHandshakeOver = true;
    this.downstream.bytes = joined(this.downstream.bytes, Buffer.from(bytes));
    this.receivedBytes += BigInt(this.downstream.bytes.length);
    const parameters = [this.id, this.downstream.bytes.length, Number(end)];
    const action = this.showing(DOWNSTREAM, this.downstream, "proxy_on_downstream_data", parameters);
    this.isHolding = action === STOP_ITERATION;
    if (action === CONTINUE) this.passHeld();
    else if (action !== STOP_ITERATION) throw new GuestFault(`proxy_on_downstream_data answered ${action}`);
    return this;
  }

  /** The server has sent these bytes, and with `end` its FIN. */
  fromServer(bytes: Buffer | string = NOTHING, { end = false } = {}): this {
    this.mustCarry(this.isServerDone);
    this.isServerDone = end;
    this.isHandshakeOver = true;
    const buffer = { bytes: Buffer.from(bytes) };
    const action = this.showing(UPSTREAM, buffer, "proxy_on_upstream_data", [
      this.id,
      buffer.bytes.length,
      Number(end),
    ]);
    if (action !== CONTINUE) throw new GuestFault("proxy_on_upstream_data held back what the server sent");
    this.sentBytes += BigInt(buffer.bytes.length);
    this.passedToClient.push(buffer.bytes);
    if (!end) return this;
    this.isClientToldEnd = true;
    this.host.call("proxy_on_upstream_connection_close", [this.id, CLOSED_BY.unknown], this);
    return this;
  }

  /** Both sides end what they have not ended yet, the client first; then the connection is over. */
  finish(): this {
    if (!this.isClientDone) this.fromClient(NOTHING, { end: true });
    if (!this.isServerDone) this.fromServer(NOTHING, { end: true });
    return this.close(CLOSED_BY.local);
  }

  /** The client is gone, without a FIN. */
  reset(): this {
    return this.close(CLOSED_BY.remote);
  }

  /** The upstream connection came to nothing, or was lost: Envoy closes the client's. */
  refuse(flags = REFUSED_FLAGS): this {
    this.responseFlags |= flags;
    return this.close(CLOSED_BY.local);
  }

  /** What the server has been sent. */
  get toServer(): Buffer {
    return Buffer.concat(this.passedToServer);
  }

  /** What the client has been sent. */
  get toClient(): Buffer {
    return Buffer.concat(this.passedToClient);
  }

  /** What the client sent and the filter holds back. */
  get held(): Buffer {
    return this.downstream.bytes;
  }

  get isClosed(): boolean {
    return this.stage === "closed";
  }

  /** The buffer of this type: in its data callback, and as long as the filter holds it. */
  buffer(type: number): DataBuffer | undefined {
    if (type === DOWNSTREAM && this.isHolding) return this.downstream;
    return this.shown?.type === type ? this.shown.buffer : undefined;
  }

  /** Passes on what is held back, without another callback. */
  continueDownstream(): void {
    if (!this.isClosed) this.passHeld();
  }

  closeDownstream(): void {
    if (!this.isClosed) this.close(CLOSED_BY.local);
  }

  find(path: readonly string[]): PropertyValue | undefined {
    return findConnectionProperty(path, this);
  }

  get sourceAddress(): string {
    return this.options.sourceAddress ?? "127.0.1.1:40000";
  }

  get destinationAddress(): string {
    return this.options.destinationAddress ?? "127.0.1.3:9080";
  }

  get requestedServerName(): string {
    return this.options.requestedServerName ?? "";
  }

  get upstreamAddress(): string | undefined {
    return this.isHostChosen ? (this.options.upstreamAddress ?? this.destinationAddress) : undefined;
  }

  get upstreamLocalAddress(): string | undefined {
    return this.isConnected ? "127.0.1.1:50000" : undefined;
  }

  get cluster(): ConnectionOptions["cluster"] {
    return this.stage === "opening" ? undefined : this.options.cluster;
  }

  get endpoint(): ConnectionOptions["endpoint"] {
    return this.isHostChosen ? this.options.endpoint : undefined;
  }

  get downstreamTls(): CertificateUris | undefined {
    return this.isHandshakeOver ? this.options.downstreamTls : undefined;
  }

  get upstreamTls(): CertificateUris | undefined {
    return this.isConnected ? this.options.upstreamTls : undefined;
  }

  /** Envoy tells the host when the connection to it stands, or came to nothing. */
  private get isHostChosen(): boolean {
    return this.isConnected || this.isClosed;
  }

  private close(by: number): this {
    this.stage = "closed";
    this.downstream.bytes = NOTHING;
    this.host.call("proxy_on_downstream_connection_close", [this.id, by], this);
    for (const name of ["proxy_on_done", "proxy_on_log", "proxy_on_delete"]) this.host.call(name, [this.id], this);
    this.host.setLive(this, false);
    return this;
  }

  private passHeld(): void {
    const { bytes } = this.downstream;
    this.isHolding = false;
    this.downstream.bytes = NOTHING;
    if (bytes.length > 0) this.passedToServer.push(bytes);
    this.isServerToldEnd = this.isClientDone;
  }

  private showing(type: number, buffer: DataBuffer, name: string, parameters: number[]): number {
    this.shown = { type, buffer };
    try {
      return this.host.call(name, parameters, this) ?? CONTINUE;
    } finally {
      this.shown = undefined;
    }
  }

  private mustCarry(isSideDone: boolean): void {
    if (this.stage !== "connected") throw new Error(`data on a connection that is ${this.stage}`);
    if (isSideDone) throw new Error("data after the end");
  }

  private mustContinue(name: string, parameters: number[]): void {
    const action = this.host.call(name, parameters, this);
    if (action !== undefined && action !== CONTINUE) throw new GuestFault(`${name} stopped the connection: ${action}`);
  }
}

function joined(first: Buffer, second: Buffer): Buffer {
  return first.length === 0 ? second : Buffer.concat([first, second]);
}
