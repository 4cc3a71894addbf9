// How a request's authority names the service: without its port, lower-case, and only when it is on the list, if there is one. Cold
// path: once per label set.

/** Longest host name there is (RFC 1035, as text). */
const MAX_NAME = 253;
const WILDCARD = "*.";

const DOT = 0x2e;
const COLON = 0x3a;

/** The rules of one plugin configuration. */
@final
export class HostRules {
  stripPort: bool = true;
  /** Whether only hosts on the list keep their name; a list may be empty. */
  hasList: bool = false;
  private readonly names: string[] = [];
  /** `.example.com` of the pattern `*.example.com`. */
  private readonly suffixes: string[] = [];

  /** Puts a host (`shop.example.com`, `[::1]`) or `*.suffix` on the list; false when it is neither. */
  allow(pattern: string): bool {
    const text = withoutDot(lowerCase(pattern));
    if (text.length > MAX_NAME) return false;
    if (text.startsWith(WILDCARD)) {
      const suffix = text.substring(1);
      if (!isName(suffix, 1, suffix.length)) return false;
      this.suffixes.push(suffix);
      return true;
    }
    if (!isName(text, 0, text.length) && !isIpv6(text)) return false;
    this.names.push(text);
    return true;
  }

  /** `shop.example.com` of `Shop.example.com.:8443`; "" for an authority that is to name nothing. */
  nameOf(authority: string): string {
    const text = lowerCase(authority);
    const colon = portColon(text);
    const host = withoutDot(text.substring(0, colon));
    if (this.hasList && !this.isListed(host)) return "";
    if (this.stripPort || host.length === 0 || !isPort(text, colon)) return host;
    return host + text.substring(colon);
  }

  private isListed(host: string): bool {
    if (host.length > MAX_NAME) return false;
    if (this.names.includes(host)) return true;
    for (let i = 0; i < this.suffixes.length; i++) {
      const suffix = this.suffixes[i];
      if (host.endsWith(suffix) && isName(host, 0, host.length - suffix.length)) return true;
    }
    return false;
  }
}

/** Where the port begins, with its colon, or the length: `a:80`, `[::1]:80`. Several colons without brackets are no port. */
function portColon(text: string): i32 {
  const afterAddress = text.startsWith("[") ? text.indexOf("]") + 1 : 0;
  const colon = text.indexOf(":", afterAddress);
  if (colon < 0 || (afterAddress > 0 && colon !== afterAddress)) return text.length;
  return colon === text.lastIndexOf(":") ? colon : text.length;
}

/** A colon and 1 to 5 digits to the end: what else stands there is nobody's port, and would be a value of a stranger's choice. */
function isPort(text: string, colon: i32): bool {
  const digits = text.length - colon - 1;
  if (digits < 1 || digits > 5) return false;
  for (let i = colon + 1; i < text.length; i++) {
    if (!isDigit(text.charCodeAt(i))) return false;
  }
  return true;
}

/** Whether [start, end) holds labels of letters, digits, `-` and `_`, none of them empty, with a dot between two. */
function isName(text: string, start: i32, end: i32): bool {
  let before = DOT;
  for (let i = start; i < end; i++) {
    const code = text.charCodeAt(i);
    const isInLabel = isDigit(code) || (code >= 0x61 && code <= 0x7a) || code === 0x2d || code === 0x5f;
    if (!isInLabel && (code !== DOT || before === DOT)) return false;
    before = code;
  }
  return before !== DOT;
}

/** `[::1]`: brackets and what an IPv6 address is written with. */
function isIpv6(text: string): bool {
  if (text.length < 4 || !text.startsWith("[") || !text.endsWith("]")) return false;
  for (let i = 1; i < text.length - 1; i++) {
    const code = text.charCodeAt(i);
    if (!isDigit(code) && !(code >= 0x61 && code <= 0x66) && code !== COLON && code !== DOT) return false;
  }
  return true;
}

function isDigit(code: i32): bool {
  return code >= 0x30 && code <= 0x39;
}

/** `a.b` is what `a.b.` means. */
function withoutDot(host: string): string {
  return host.endsWith(".") ? host.substring(0, host.length - 1) : host;
}

/** ASCII only, as in names of hosts. */
function lowerCase(text: string): string {
  const units = new StaticArray<u16>(text.length);
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    units[i] = <u16>(code >= 0x41 && code <= 0x5a ? code + 0x20 : code);
  }
  return String.UTF16.decodeUnsafe(changetype<usize>(units), text.length << 1);
}
