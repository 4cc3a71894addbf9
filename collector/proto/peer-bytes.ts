// What a byte string in a filter state says of a peer: the encodings that mesh proxies of all generations use.
//
//   BytesValue of a FlatNode   the wasm filter's (Istio before 1.24, and our own): flat-node.ts
//   Struct                     the native filter's (Istio 1.24 and later), keys in lower case; exchanged, in upper case: struct.ts
//   BytesValue of a Struct, StringValue or BytesValue of base64 text of either
//                              what other writers and loggers make of the same two
//
// Sources: istio/proxy extensions/common/node_info.fbs and extensions/common/metadata_object.cc; of Envoy,
// source/extensions/filters/common/expr/cel_state.cc (what wasm sets, BytesValue) and source/common/router/string_accessor_impl.h (StringValue).
//
// The rule for a byte string, whose type says nothing of what is in it. The first that says something is meant:
//   1. a FlatNode whose offsets all lie within the bytes
//   2. a Struct
//   3. base64 text, of the standard or the URL-safe alphabet, padded or not, of 1 or 2; of base64 again it is not
// They do not meet: base64 text begins with a FlatNode's offset beyond 700 MB and has no byte 0x0a, the tag of a Struct's fields, in it;
// a Struct begins with 0x0a, its first entry's length and that entry's key, an offset beyond its end.

import { decodeFlatNode, type FlatNode } from "./flat-node.ts";
import { decodeMetadata, type Metadata } from "./struct.ts";

/** A peer's facts in the form in which they were found; null when there are none to be found. */
export type PeerFacts =
  | { readonly form: "flat_node"; readonly node: FlatNode }
  | { readonly form: "struct"; readonly metadata: Metadata }
  | null;

export function decodePeerBytes(bytes: Buffer, start: number, stop: number): PeerFacts {
  const plain = decodePlain(bytes, start, stop);
  if (plain !== null && !isEmpty(plain)) return plain;
  const decoded = decodeBase64(bytes, start, stop);
  if (decoded === null) return plain;
  return decodePlain(decoded, 0, decoded.length) ?? plain;
}

/** An empty FlatNode is a peer, of whom nothing is known; an empty Struct here is any bytes that have no field of it. */
function decodePlain(bytes: Buffer, start: number, stop: number): PeerFacts {
  const node = decodeFlatNode(bytes, start, stop);
  const flat: PeerFacts = node === null ? null : { form: "flat_node", node };
  if (flat !== null && !isEmpty(flat)) return flat;
  const metadata = decodeMetadata(bytes, start, stop);
  if (metadata === null) return flat;
  const struct: PeerFacts = { form: "struct", metadata };
  return isEmpty(struct) ? flat : struct;
}

function isEmpty(facts: Exclude<PeerFacts, null>): boolean {
  if (facts.form === "struct") return facts.metadata.texts.size === 0 && facts.metadata.labels.size === 0;
  const { name, namespace, workloadName, clusterId, labels } = facts.node;
  return name === "" && namespace === "" && workloadName === "" && clusterId === "" && labels.size === 0;
}

const PADDING = "=".charCodeAt(0);
const MAX_PADDING = 2;
const IS_BASE64 = new Uint8Array(256);
for (const byte of Buffer.from("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/-_"))
  IS_BASE64[byte] = 1;

/** Null when it is no base64 text. */
function decodeBase64(bytes: Buffer, start: number, stop: number): Buffer | null {
  let end = stop;
  while (end > start && stop - end < MAX_PADDING && bytes[end - 1] === PADDING) end--;
  if (end === start || (end - start) % 4 === 1) return null;
  for (let at = start; at < end; at++) {
    if (IS_BASE64[bytes[at] as number] === 0) return null;
  }
  return Buffer.from(bytes.toString("latin1", start, end), "base64"); // Node takes both alphabets
}
