// The prefix: what two proxies say of themselves before the first byte of a TCP stream, as Istio's do.
//
//   3d 23 04 67 | u32 N, big-endian | N bytes: google.protobuf.Any { type_url = Struct's, value = Struct {
//                                       "x-envoy-peer-metadata": Struct of the workload, "x-envoy-peer-metadata-id": node id } }

import { ExchangeConfig } from "../config/exchange.ts";
import { noteColdWork } from "../garbage.ts";
import { utf8 } from "../host.ts";
import { ownMetadata, ownNode } from "../node.ts";
import { PEER_ID_HEADER, PEER_METADATA_HEADER } from "../vocabulary/peer-metadata.ts";
import { decodeBase64, decodedSize } from "../wire/base64.ts";
import { isText } from "../wire/bytes.ts";
import { LENGTH_DELIMITED, Reader } from "../wire/protobuf.ts";
import { StructReader, StructWriter, ValueKind } from "../wire/struct.ts";
import { Writer } from "../wire/writer.ts";

/** 3d 23 04 67, read as little-endian. */
const MAGIC: u32 = 0x6704233d;
export const MAGIC_SIZE: u32 = 4;
/** Magic and length. */
export const HEADER_SIZE: u32 = 8;
const MAX_CONTENT: u32 = 64 * 1024;

const STRUCT_URL_TEXT = "type.googleapis.com/google.protobuf.Struct";
const TYPE_URL: u32 = 1;
const VALUE: u32 = 2;
const TYPE_URL_TAG: u8 = 0x0a;
const VALUE_TAG: u8 = 0x12;

/** What every prefix holds behind its length. */
const CONTENT_START = contentStart();
const STRUCT_URL = utf8(STRUCT_URL_TEXT);
const METADATA_KEY = utf8(PEER_METADATA_HEADER);

function contentStart(): StaticArray<u8> {
  const out = new Writer();
  out.u8(TYPE_URL_TAG);
  out.varint(STRUCT_URL_TEXT.length);
  out.text(STRUCT_URL_TEXT);
  return out.take();
}

/** So many bytes tell whether a stream begins with a prefix, and how long that is. */
export const START_SIZE: u32 = HEADER_SIZE + <u32>CONTENT_START.length;

/** What the first bytes of a stream are. */
export enum Verdict {
  /** No prefix: they do not begin like one, or say that they are longer than we take. */
  None,
  /** No prefix either, although they begin with its magic and a length that can be. */
  Broken,
  /** They may become one. */
  Partial,
  /** The beginning of one, whose size is known: `prefixSize`. */
  Begun,
}

/** Size of the prefix that was judged last, its magic and length included. */
export let prefixSize: u32 = 0;

/**
 * Judges the first bytes of a stream: those that are there, of which more than START_SIZE tell nothing more. `isLoose`: what has the magic and a
 * length has begun, whatever follows, since protobuf allows the content in another order than everybody writes it in.
 */
export function judge(ptr: usize, size: u32, isLoose: bool): Verdict {
  if (!matchesMagic(ptr, 0, min(size, MAGIC_SIZE))) return Verdict.None;
  if (size < MAGIC_SIZE) return Verdict.Partial;
  const content = contentSize(ptr, size);
  if (content > MAX_CONTENT) return Verdict.None;
  if (size < HEADER_SIZE) return Verdict.Partial;
  prefixSize = HEADER_SIZE + content;
  if (isLoose) return Verdict.Begun;
  if (content < <u32>CONTENT_START.length) return Verdict.Broken;
  const seen = min(size, START_SIZE) - HEADER_SIZE;
  if (memory.compare(ptr + HEADER_SIZE, changetype<usize>(CONTENT_START), seen) !== 0) return Verdict.Broken;
  return size < START_SIZE ? Verdict.Partial : Verdict.Begun;
}

/** What the length says, as far as it is there: its missing bytes count as 0. */
function contentSize(ptr: usize, size: u32): u32 {
  let content: u32 = 0;
  for (let i: u32 = MAGIC_SIZE; i < HEADER_SIZE; i++)
    content = (content << 8) | (i < size ? <u32>load<u8>(ptr + i) : 0);
  return content;
}

/** Whether `size` bytes are those of the magic from `from` on. */
export function matchesMagic(ptr: usize, from: u32, size: u32): bool {
  for (let i: u32 = 0; i < size; i++) {
    if (load<u8>(ptr + i) !== <u8>(MAGIC >> ((from + i) * 8))) return false;
  }
  return true;
}

/** The Struct of the workload in the prefix that was opened last. */
export let metadataPtr: usize = 0;
export let metadataSize: usize = 0;
/** Whether it has any: a peer may say its id alone. */
export let hasMetadata: bool = false;

/** Opens a whole prefix of `size` bytes; false when it is none after all. */
export function openPrefix(ptr: usize, size: u32): bool {
  hasMetadata = false;
  noteColdWork(1);
  const any = new Reader();
  any.open(ptr + HEADER_SIZE, size - HEADER_SIZE);
  let isStruct = false;
  let valuePtr: usize = 0;
  let valueSize: usize = 0;
  while (any.next()) {
    if (any.wireType !== LENGTH_DELIMITED) continue;
    if (any.field === TYPE_URL) {
      isStruct = isText(any.ptr, any.size, STRUCT_URL);
    } else if (any.field === VALUE) {
      valuePtr = any.ptr;
      valueSize = any.size;
    }
  }
  return isStruct && !any.isMalformed && readMetadata(valuePtr, valueSize);
}

function readMetadata(ptr: usize, size: usize): bool {
  const fields = new StructReader();
  fields.open(ptr, size);
  while (fields.next()) {
    if (fields.kind !== ValueKind.Struct) continue;
    if (!isText(fields.keyPtr, fields.keySize, METADATA_KEY)) continue;
    metadataPtr = fields.valuePtr;
    metadataSize = fields.valueSize;
    hasMetadata = true;
  }
  return !fields.isMalformed;
}

/** What we send under this configuration; empty when our metadata is too long to be sent. */
export function ownPrefix(exchange: ExchangeConfig): StaticArray<u8> {
  const known = exchange.tcp.ownPrefix;
  if (known !== null) return known;
  const made = makePrefix(exchange);
  exchange.tcp.ownPrefix = made;
  return made;
}

function makePrefix(exchange: ExchangeConfig): StaticArray<u8> {
  const header = ownMetadata(exchange);
  if (header.byteLength === 0) return new StaticArray<u8>(0);
  const workload = new StaticArray<u8>(<i32>decodedSize(header.byteLength));
  const size = decodeBase64(changetype<usize>(header), header.byteLength, changetype<usize>(workload));
  const struct = new StructWriter();
  struct.bytes(PEER_METADATA_HEADER, changetype<usize>(workload), size);
  struct.text(PEER_ID_HEADER, ownNode().id);
  const value = struct.take();
  const any = new Writer();
  any.copy(changetype<usize>(CONTENT_START), CONTENT_START.length);
  any.u8(VALUE_TAG);
  any.varint(value.length);
  any.copy(changetype<usize>(value), value.length);
  const out = new Writer();
  out.u32(MAGIC);
  out.u32(bswap(<u32>any.length));
  out.copy(any.ptr, any.length);
  return out.take();
}
