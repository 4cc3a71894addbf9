// Names with wildcards: `outbound|6379|*`.

const STAR = 0x2a;

/** Whether the pattern stands for the whole text; each `*` in it stands for any text, also for none. */
export function matches(pattern: string, text: string): bool {
  let at = 0;
  let next = 0;
  let star = -1;
  let resume = 0;
  while (at < text.length) {
    if (next < pattern.length && pattern.charCodeAt(next) === STAR) {
      star = next++;
      resume = at;
    } else if (next < pattern.length && pattern.charCodeAt(next) === text.charCodeAt(at)) {
      next++;
      at++;
    } else if (star >= 0) {
      next = star + 1; // the last star takes in one more
      at = ++resume;
    } else {
      return false;
    }
  }
  while (next < pattern.length && pattern.charCodeAt(next) === STAR) next++;
  return next === pattern.length;
}
