// A reader of Istio's FlatNode FlatBuffer, of the tests' own: written from the format's description
// (flatbuffers.dev/internals), with every offset, alignment and bound checked.
//
//   u32 root -> table: i32 (table - vtable), fields;  vtable: u16 vtable bytes, u16 table bytes, u16 offset per field (0: absent)
//   string: u32 length, bytes, NUL;  vector: u32 count, elements;  a reference is a u32 forward offset from its own place

/** Fields in the order of their slots. */
export interface FlatNode {
  readonly name: string | undefined;
  readonly namespace: string | undefined;
  readonly labels: readonly (readonly [key: string, value: string])[] | undefined;
  readonly owner: string | undefined;
  readonly workloadName: string | undefined;
  readonly istioVersion: string | undefined;
  readonly meshId: string | undefined;
  readonly clusterId: string | undefined;
}

const SLOT = { name: 0, namespace: 1, labels: 2, owner: 3, workloadName: 4, istioVersion: 6, meshId: 7, clusterId: 9 };
const SLOT_COUNT = 11;

/** Throws RangeError on bytes that are no well-formed FlatNode. */
export function readFlatNode(bytes: Buffer): FlatNode {
  const root = new Table(bytes, follow(bytes, 0));
  const labels = root.reference(SLOT.labels);
  return {
    name: root.text(SLOT.name),
    namespace: root.text(SLOT.namespace),
    labels: labels === undefined ? undefined : readVector(bytes, labels).map(readKeyValue),
    owner: root.text(SLOT.owner),
    workloadName: root.text(SLOT.workloadName),
    istioVersion: root.text(SLOT.istioVersion),
    meshId: root.text(SLOT.meshId),
    clusterId: root.text(SLOT.clusterId),
  };

  function readKeyValue(at: number): [string, string] {
    const table = new Table(bytes, at);
    return [table.text(0) ?? "", table.text(1) ?? ""];
  }
}

class Table {
  private readonly vtable: number;
  private readonly slots: number;
  private readonly size: number;

  constructor(
    private readonly bytes: Buffer,
    private readonly at: number,
  ) {
    requireAligned(at, 4);
    this.vtable = at - bytes.readInt32LE(at);
    requireAligned(this.vtable, 2);
    const vtableBytes = bytes.readUInt16LE(this.vtable);
    if (vtableBytes < 4 || vtableBytes % 2 !== 0) throw new RangeError(`vtable of ${vtableBytes} bytes`);
    this.slots = (vtableBytes - 4) / 2;
    if (this.slots > SLOT_COUNT) throw new RangeError(`${this.slots} fields`);
    this.size = bytes.readUInt16LE(this.vtable + 2);
    if (at + this.size > bytes.length) throw new RangeError("table beyond the end");
  }

  reference(slot: number): number | undefined {
    if (slot >= this.slots) return undefined;
    const offset = this.bytes.readUInt16LE(this.vtable + 4 + 2 * slot);
    if (offset === 0) return undefined;
    if (offset < 4 || offset + 4 > this.size)
      throw new RangeError(`field at ${offset} of a table of ${this.size} bytes`);
    return follow(this.bytes, this.at + offset);
  }

  text(slot: number): string | undefined {
    const at = this.reference(slot);
    if (at === undefined) return undefined;
    const length = this.bytes.readUInt32LE(at);
    if (this.bytes.readUInt8(at + 4 + length) !== 0) throw new RangeError("string without its NUL");
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(
      this.bytes.subarray(at + 4, at + 4 + length),
    );
  }
}

function readVector(bytes: Buffer, at: number): number[] {
  const count = bytes.readUInt32LE(at);
  if (at + 4 + 4 * count > bytes.length) throw new RangeError(`vector of ${count}`);
  return Array.from({ length: count }, (_, index) => follow(bytes, at + 4 + 4 * index));
}

function follow(bytes: Buffer, at: number): number {
  requireAligned(at, 4);
  const target = at + bytes.readUInt32LE(at);
  if (target >= bytes.length) throw new RangeError(`reference to ${target} of ${bytes.length}`);
  return target;
}

function requireAligned(at: number, alignment: number): void {
  if (at % alignment !== 0) throw new RangeError(`${at} is not aligned to ${alignment}`);
}
