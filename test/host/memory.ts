// The guest's linear memory as the host sees it: every pointer that the guest hands over is checked, none is trusted.

/** A guest that broke the ABI: a pointer outside its memory, an import that is not emulated, a stopped request. */
export class GuestFault extends Error {
  override readonly name = "GuestFault";
}

export class GuestMemory {
  private view: Buffer;

  /** `allocate` is the guest's own allocator; it may grow the memory. */
  constructor(
    private readonly memory: WebAssembly.Memory,
    private readonly allocate: (size: number) => number,
  ) {
    this.view = Buffer.from(memory.buffer);
  }

  get byteLength(): number {
    return this.memory.buffer.byteLength;
  }

  /** A view, not a copy: valid until the guest runs again. Throws GuestFault when it is not all inside the memory. */
  bytes(pointer: number, size: number): Buffer {
    const start = pointer >>> 0;
    const length = size >>> 0;
    if (this.view.buffer !== this.memory.buffer) this.view = Buffer.from(this.memory.buffer);
    if (start + length > this.view.length) {
      throw new GuestFault(`pointer ${start} + ${length} bytes is outside the guest's ${this.view.length} bytes`);
    }
    return this.view.subarray(start, start + length);
  }

  /** One character per byte, so that any bytes make a key; decode with Buffer.from(text, "latin1"). */
  latin1(pointer: number, size: number): string {
    this.bytes(pointer, size);
    return this.view.toString("latin1", pointer >>> 0, (pointer >>> 0) + (size >>> 0));
  }

  writeU32(pointer: number, value: number): void {
    this.bytes(pointer, 4).writeUInt32LE(value >>> 0, 0);
  }

  writeU64(pointer: number, value: bigint): void {
    this.bytes(pointer, 8).writeBigUInt64LE(BigInt.asUintN(64, value), 0);
  }

  /**
   * Returns bytes to the guest as Envoy does: memory from the guest's allocator, its address and size at the two pointers.
   * Nothing is allocated for an empty value; its address is 0.
   */
  give(value: Uint8Array, pointerOut: number, sizeOut: number): void {
    let address = 0;
    if (value.length > 0) {
      address = this.allocate(value.length);
      if (address === 0) throw new GuestFault(`the guest's allocator gave no ${value.length} bytes`);
      this.bytes(address, value.length).set(value);
    }
    this.writeU32(pointerOut, address);
    this.writeU32(sizeOut, value.length);
  }
}
