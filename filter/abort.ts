// What the compiler calls on a failed assertion: says where, then traps. Envoy's fail_open lets the traffic pass.
//
// It must reach no file with globals that allocate. The allocator itself refers to it, so such a file would be initialised before the
// allocator is, and the garbage collector would trap on what was allocated then.

import { proxy_log } from "./env.ts";

const LEVEL_ERROR: u32 = 4;

export function abort(message: string | null, file: string | null, line: u32, column: u32): void {
  const what = message === null ? "assertion failed" : message;
  const where = file === null ? "?" : file;
  const text = String.UTF8.encode(`meshtally: ${what} at ${where}:${line}:${column}`);
  proxy_log(LEVEL_ERROR, changetype<usize>(text), text.byteLength);
  unreachable();
}
