// envoy.config.core.v3.Address: where one end of a connection is.
// https://github.com/envoyproxy/envoy/blob/main/api/envoy/config/core/v3/address.proto
//
//   Address { oneof: SocketAddress socket_address 1, Pipe pipe 2, EnvoyInternalAddress envoy_internal_address 3 }

import { bytesTag, varintTag, WireReader } from "./wire.ts";
import type { WireWriter } from "./wire-writer.ts";

const SOCKET_ADDRESS = bytesTag(1);
const PIPE = bytesTag(2);
const INTERNAL = bytesTag(3);
const IP = bytesTag(2);
const PORT = varintTag(3);
const PIPE_PATH = bytesTag(1);
const LISTENER_NAME = bytesTag(1);
const ENDPOINT_ID = bytesTag(2);

const addressFields = new WireReader();
const partFields = new WireReader();

export interface SocketAddress {
  readonly ip: string;
  readonly port: number;
}

/** Where an Address lies in an entry; decoded only when somebody asks, as most entries' are not needed. */
export class AddressField {
  isPresent = false;
  private start = 0;
  private stop = 0;

  clear(): void {
    this.isPresent = false;
  }

  /** One given twice reads as the last one. */
  set(start: number, stop: number): void {
    this.isPresent = true;
    this.start = start;
    this.stop = stop;
  }

  /**
   * IP and port of a socket address, or of an internal one whose endpoint id is such (`10.0.0.7:8080`, `[fd00::7]:8080`: a waypoint's).
   * Null for a pipe, for any other id, when absent and when malformed.
   */
  read(bytes: Buffer): SocketAddress | null {
    if (!this.isPresent) return null;
    let address: SocketAddress | null = null;
    addressFields.open(bytes, this.start, this.stop);
    while (addressFields.next()) {
      const { tag, start, stop } = addressFields;
      if (tag === SOCKET_ADDRESS) address = readSocketAddress(bytes, start, stop);
      else if (tag === INTERNAL) address = readEndpointId(bytes, start, stop);
      else if (tag === PIPE) address = null;
    }
    return addressFields.isMalformed ? null : address;
  }
}

function readSocketAddress(bytes: Buffer, start: number, stop: number): SocketAddress | null {
  let ip = "";
  let port = 0;
  partFields.open(bytes, start, stop);
  while (partFields.next()) {
    if (partFields.tag === IP) ip = partFields.text();
    else if (partFields.tag === PORT) port = partFields.low >>> 0;
  }
  return partFields.isMalformed || ip === "" ? null : { ip, port };
}

function readEndpointId(bytes: Buffer, start: number, stop: number): SocketAddress | null {
  let id = "";
  partFields.open(bytes, start, stop);
  while (partFields.next()) {
    if (partFields.tag === ENDPOINT_ID) id = partFields.text();
  }
  if (partFields.isMalformed) return null;
  const [, six, four, port] = /^(?:\[([^\]]+)\]|([^:]+)):(\d{1,5})$/.exec(id) ?? [];
  const ip = six ?? four;
  return ip === undefined ? null : { ip, port: Number(port) };
}

/** The text of an Address as Envoy writes it: `10.0.0.7:5432`, `[::1]:5432`, the path of a pipe; "" of others, null when malformed. */
export function readAddressText(bytes: Buffer, start: number, stop: number): string | null {
  let text = "";
  addressFields.open(bytes, start, stop);
  while (addressFields.next()) {
    if (addressFields.tag !== SOCKET_ADDRESS && addressFields.tag !== PIPE) continue;
    const part = readPartText(addressFields.tag, bytes, addressFields.start, addressFields.stop);
    if (part === null) return null;
    text = part;
  }
  return addressFields.isMalformed ? null : text;
}

function readPartText(tag: number, bytes: Buffer, start: number, stop: number): string | null {
  let host = "";
  let port = 0;
  partFields.open(bytes, start, stop);
  while (partFields.next()) {
    if (tag === PIPE && partFields.tag === PIPE_PATH) host = partFields.text();
    if (tag === SOCKET_ADDRESS && partFields.tag === IP) host = partFields.text();
    if (tag === SOCKET_ADDRESS && partFields.tag === PORT) port = partFields.low >>> 0;
  }
  if (partFields.isMalformed) return null;
  if (tag === PIPE) return host;
  return host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;
}

/**
 * The Address whose text Envoy's formatters write: what `readAddressText` reads, and `envoy://listener/endpoint` of an internal one. Any
 * other text is a pipe's path.
 */
export function writeAddress(writer: WireWriter, tag: number, text: string): void {
  const [, six, four, port] = /^(?:\[([^\]]+)\]|([^:/]+)):(\d{1,5})$/.exec(text) ?? [];
  const [, listener, endpoint] = /^envoy:\/\/([^/]*)\/(.*)$/.exec(text) ?? [];
  writer.begin(tag);
  if (port !== undefined) {
    writer.begin(SOCKET_ADDRESS);
    writer.text(IP, six ?? four ?? "");
    writer.varint(PORT, Number(port));
  } else if (endpoint !== undefined) {
    writer.begin(INTERNAL);
    writer.text(LISTENER_NAME, listener ?? "");
    writer.text(ENDPOINT_ID, endpoint);
  } else {
    writer.begin(PIPE);
    writer.text(PIPE_PATH, text);
  }
  writer.end();
  writer.end();
}
