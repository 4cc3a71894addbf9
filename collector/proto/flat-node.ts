// FlatNode: the FlatBuffer in which a wasm filter leaves its peer, `wasm.upstream_peer` / `wasm.downstream_peer` (Istio up to
// 1.23, and our filter). Source: istio/proxy, extensions/common/node_info.fbs. https://flatbuffers.dev/internals/
//
//   buffer: u32 offset of the root table
//   table:  i32 distance back to its vtable, then the fields
//   vtable: u16 own size, u16 table size, u16 per slot: where the field lies in the table (0: absent)
//   field of a string or vector: u32 distance forward to it; string: u32 length, bytes; vector: u32 count, u32 distance each
//
// Bytes come from outside: every offset is checked, nothing is followed twice, and what is taken is bounded.

/** Slots of table FlatNode in the schema's order: the name, and those that become labels. */
const NAME_SLOT = 0;
const NAMESPACE_SLOT = 1;
const LABELS_SLOT = 2;
const WORKLOAD_NAME_SLOT = 4;
const CLUSTER_ID_SLOT = 9;

/** Slots of table KeyVal. */
const KEY_SLOT = 0;
const VALUE_SLOT = 1;

/** Several labels may point at the same bytes: these two bound what a small hostile buffer unfolds to. */
const MAX_LABELS = 256;
const MAX_TEXT_BYTES = 4096;

/** Absent text is "". */
export interface FlatNode {
  /** Of the pod. */
  readonly name: string;
  readonly namespace: string;
  readonly workloadName: string;
  readonly clusterId: string;
  readonly labels: ReadonlyMap<string, string>;
}

/** Null when an offset leaves the bytes, or a text or the labels exceed their bound. */
export function decodeFlatNode(bytes: Buffer, start: number, stop: number): FlatNode | null {
  const reader = new FlatReader(bytes.subarray(start, stop));
  const root = reader.follow(0);
  const node = {
    name: reader.text(root, NAME_SLOT),
    namespace: reader.text(root, NAMESPACE_SLOT),
    workloadName: reader.text(root, WORKLOAD_NAME_SLOT),
    clusterId: reader.text(root, CLUSTER_ID_SLOT),
    labels: readLabels(reader, root),
  };
  return reader.isMalformed ? null : node;
}

/** The name alone, of a pod mostly: it becomes no label. "" when there is none to be read. */
export function readFlatNodeName(bytes: Buffer, start: number, stop: number): string {
  const reader = new FlatReader(bytes.subarray(start, stop));
  const name = reader.text(reader.follow(0), NAME_SLOT);
  return reader.isMalformed ? "" : name;
}

function readLabels(reader: FlatReader, root: number): Map<string, string> {
  const labels = new Map<string, string>();
  const field = reader.field(root, LABELS_SLOT);
  if (field === ABSENT) return labels;
  const vector = reader.follow(field);
  const count = reader.u32(vector);
  if (count > MAX_LABELS) reader.fail();
  for (let i = 0; i < count && !reader.isMalformed; i++) {
    const label = reader.follow(vector + 4 + i * 4);
    labels.set(reader.text(label, KEY_SLOT), reader.text(label, VALUE_SLOT));
  }
  return labels;
}

/** No field lies at 0: the root's offset does. */
const ABSENT = 0;

/** Reads past the end give 0 and set `isMalformed`, so that a decoder needs to look only once, at its end. */
class FlatReader {
  isMalformed = false;

  constructor(private readonly bytes: Buffer) {}

  /** Where the table, vector or string lies that the offset at `at` points to. */
  follow(at: number): number {
    return at + this.u32(at);
  }

  /** Where the field of a table's slot lies; ABSENT when the table has none. */
  field(table: number, slot: number): number {
    const vtable = table - this.i32(table);
    const entry = 4 + slot * 2;
    if (entry + 2 > this.u16(vtable)) return ABSENT;
    const offset = this.u16(vtable + entry);
    return offset === 0 ? ABSENT : table + offset;
  }

  text(table: number, slot: number): string {
    const field = this.field(table, slot);
    if (field === ABSENT) return "";
    const at = this.follow(field);
    const length = this.u32(at);
    if (length > MAX_TEXT_BYTES || !this.has(at + 4, length)) return this.fail();
    return this.bytes.toString("utf8", at + 4, at + 4 + length);
  }

  u32(at: number): number {
    return this.has(at, 4) ? this.bytes.readUInt32LE(at) : 0;
  }

  fail(): "" {
    this.isMalformed = true;
    return "";
  }

  private i32(at: number): number {
    return this.has(at, 4) ? this.bytes.readInt32LE(at) : 0;
  }

  private u16(at: number): number {
    return this.has(at, 2) ? this.bytes.readUInt16LE(at) : 0;
  }

  private has(at: number, length: number): boolean {
    if (at >= 0 && at + length <= this.bytes.length) return true;
    this.isMalformed = true;
    return false;
  }
}
