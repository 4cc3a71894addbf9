// Which shard a proxy's data goes to: the hash of its node id, modulo their number.

/** FNV-1a, 32 bits, and MurmurHash3's last steps: its lower bits alone would tell nothing of an id that has each digit twice. */
export function hash(text: string): number {
  let value = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) value = Math.imul(value ^ text.charCodeAt(i), 0x01000193);
  value = Math.imul(value ^ (value >>> 16), 0x85ebca6b);
  value = Math.imul(value ^ (value >>> 13), 0xc2b2ae35);
  return (value ^ (value >>> 16)) >>> 0;
}
