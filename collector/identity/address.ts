// IP addresses and CIDR blocks as keys and as numbers. IPv4 addresses are numbered as IPv6 has them (::ffff:0:0/96), so that one order
// holds both, and `::ffff:10.0.0.1`, as a dual-stack listener sees its clients, is 10.0.0.1.

import { isIP } from "node:net";

const MAPPED = 0xffffn << 32n;
const MAPPED_BITS = 96;
const ALL_BITS = 128;

/**
 * The one spelling of an address: IPv4 as it is, IPv6 as 32 hexadecimal digits: `::1` and `0:0::1` are one. Null for any other text.
 */
export function addressKey(text: string): string | null {
  if (!text.includes(":")) return isIP(text) === 4 ? text : null;
  const number = parseAddress(text);
  return number === null ? null : keyOfNumber(number);
}

/** The number of an address of either family; null for any other text. A zone (`fe80::1%eth0`) does not count. */
export function parseAddress(text: string): bigint | null {
  const version = isIP(text);
  if (version === 4) return MAPPED | BigInt(parseDotted(text));
  return version === 6 ? parseGroups(text.split("%")[0] as string) : null;
}

/** First and last address of a block. */
export interface Block {
  readonly first: bigint;
  readonly last: bigint;
}

/** `10.0.0.0/8`, `fd00::/64`, also with bits behind the prefix; all of the block counts, so /31 has two, /32 one. Null for other texts. */
export function parseBlock(text: string): Block | null {
  const [, address = "", digits = ""] = /^([^/]+)\/(\d{1,3})$/.exec(text) ?? [];
  const number = parseAddress(address);
  const bits = Number(digits) + (isIP(address) === 4 ? MAPPED_BITS : 0);
  if (number === null || bits > ALL_BITS) return null;
  const host = (1n << BigInt(ALL_BITS - bits)) - 1n;
  return { first: number & ~host, last: number | host };
}

/** The key (addressKey) of a number. */
export function keyOfNumber(number: bigint): string {
  if (number >> 32n === MAPPED >> 32n) return dotted(Number(number & 0xffffffffn));
  return number.toString(16).padStart(32, "0");
}

function parseDotted(text: string): number {
  return text.split(".").reduce((number, part) => number * 256 + Number(part), 0);
}

function dotted(number: number): string {
  return [number >>> 24, (number >>> 16) & 255, (number >>> 8) & 255, number & 255].join(".");
}

/** Of a valid IPv6 address; its last two groups may be written as IPv4. */
function parseGroups(text: string): bigint {
  const [head = "", tail] = text.split("::");
  const before = groupsOf(head);
  const after = groupsOf(tail ?? "");
  const zeros = new Array<number>(8 - before.length - after.length).fill(0);
  return [...before, ...zeros, ...after].reduce((number, group) => (number << 16n) | BigInt(group), 0n);
}

function groupsOf(text: string): number[] {
  if (text === "") return [];
  return text.split(":").flatMap((group) => {
    if (!group.includes(".")) return [Number.parseInt(group, 16)];
    const number = parseDotted(group);
    return [number >>> 16, number & 0xffff];
  });
}
