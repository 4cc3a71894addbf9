// Slab: many equally long rows of numbers in a few large arrays. One row costs its numbers and nothing else; a typed array of
// its own would cost some 200 bytes more, and the collector holds a row or two for each label set of each proxy.

const CHUNK_BITS = 8;
const ROWS_PER_CHUNK = 1 << CHUNK_BITS;

/**
 * Rows of `width` float64, zeroed when allocated, named by a number. 64-bit floats because counts are exact in them up to 2^53,
 * and a 32-bit count overflows after 49 days at 1,000 requests a second.
 */
export class Slab {
  private readonly chunks: Float64Array[] = [];
  private readonly free: number[] = [];
  private used = 0;

  constructor(readonly width: number) {}

  /** A zeroed row. */
  allocate(): number {
    const row = this.free.pop();
    if (row !== undefined) {
      const at = this.offset(row);
      this.chunk(row).fill(0, at, at + this.width);
      return row;
    }
    if (this.used === this.chunks.length * ROWS_PER_CHUNK) {
      this.chunks.push(new Float64Array(ROWS_PER_CHUNK * this.width));
    }
    return this.used++;
  }

  /** Gives the row back; its number must not be used again. */
  release(row: number): void {
    this.free.push(row);
  }

  /** The array that holds the row, from `offset(row)` on. Stays the same for the row's life. */
  chunk(row: number): Float64Array {
    return this.chunks[row >>> CHUNK_BITS] as Float64Array;
  }

  offset(row: number): number {
    return (row & (ROWS_PER_CHUNK - 1)) * this.width;
  }

  /** One number of the row; 0 of the row -1, which stands for none. */
  at(row: number, field: number): number {
    return row < 0 ? 0 : (this.chunk(row)[this.offset(row) + field] as number);
  }

  /** Rows in use. */
  get size(): number {
    return this.used - this.free.length;
  }
}
