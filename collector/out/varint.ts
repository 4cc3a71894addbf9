// Protobuf's varints, written into a buffer that has room. https://protobuf.dev/programming-guides/encoding/#varints

/** Bytes of a whole number from 0 to 2^53. */
export function varintLength(value: number): number {
  let length = 1;
  for (let rest = value; rest >= 0x80; rest = Math.floor(rest / 0x80)) length++;
  return length;
}

/** Writes it at `at`; returns the place behind it. */
export function writeVarint(buffer: Buffer, value: number, at: number): number {
  let end = at;
  let rest = value;
  for (; rest >= 0x80; rest = Math.floor(rest / 0x80)) buffer[end++] = (rest % 0x80) | 0x80;
  buffer[end++] = rest;
  return end;
}

/** A field whose content is bytes: tag, length, content. `field` up to 15. */
export function bytesField(field: number, content: Buffer | string): Buffer {
  const bytes = typeof content === "string" ? Buffer.from(content) : content;
  const head = Buffer.alloc(1 + varintLength(bytes.length));
  head[0] = (field << 3) | 2;
  writeVarint(head, bytes.length, 1);
  return Buffer.concat([head, bytes]);
}
