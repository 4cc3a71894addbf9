// Where the host puts the bytes it returns: a bump arena, emptied at the start of every callback.
//
// Nothing here outlives a callback. What does not fit (a header of 100 KiB) gets a block of its own, freed at the next reset,
// so one huge header costs its size once and no leak.

const SIZE: usize = 32 * 1024;
const START: usize = memory.data(32 * 1024, 16);
const BLOCK_HEADER: usize = 16; // the link to the block before, and padding to keep 16-byte alignment

let cursor: usize = START;
let lastBlock: usize = 0;

/** Forgets everything allocated since the last reset. Call on entry to each callback, before anything else. */
export function reset(): void {
  cursor = START;
  while (lastBlock !== 0) {
    const before = load<usize>(lastBlock);
    heap.free(lastBlock);
    lastBlock = before;
  }
}

/** `size` bytes, 8-aligned, valid until the next reset. */
export function allocate(size: usize): usize {
  const aligned = (size + 7) & ~(<usize>7);
  if (aligned <= START + SIZE - cursor) {
    const at = cursor;
    cursor += aligned;
    return at;
  }
  const block = heap.alloc(BLOCK_HEADER + aligned);
  store<usize>(block, lastBlock);
  lastBlock = block;
  return block + BLOCK_HEADER;
}
