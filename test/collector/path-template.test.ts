import { describe, expect, it } from "vitest";
import { PathTree, parsePathTemplate } from "../../collector/analysis/path-template.ts";
import { random } from "../property/random.ts";

function treeOf(...templates: string[]): PathTree<string> {
  const tree = new PathTree<string>();
  for (const text of templates) add(tree, text, null);
  return tree;
}

function add(tree: PathTree<string>, text: string, method: string | null): void {
  const parsed = parsePathTemplate(text);
  if (!parsed.ok) throw new Error(`${text}: ${parsed.found}`);
  tree.add(parsed.template, method, method === null ? text : `${method} ${text}`);
}

describe("parsePathTemplate", () => {
  it.each([
    ["users", '"users"', 'a path that begins with "/"'],
    ["", '""', 'a path that begins with "/"'],
    ["/a?b={c}", '"?" in "/a?b={c}"', "a path alone"],
    ["/a;v={c}", '";" in "/a;v={c}"', "a path alone"],
    ["/**/a", '"**" in "/**/a"', "it at the end alone"],
    ["/a/{b", '"{b" in "/a/{b"', 'each "{" closed by a "}" in the same segment'],
    ["/a/b}", '"b}" in "/a/b}"', 'each "{" closed by a "}" in the same segment'],
    ["/a/{b/c}", '"{b" in "/a/{b/c}"', 'each "{" closed by a "}" in the same segment'],
    ["/a/{{b}}", '"{{b}}" in "/a/{{b}}"', 'each "{" closed by a "}" in the same segment'],
    ["/a".repeat(65), "65 segments", "at most 64"],
    [`/${"a".repeat(1000)}`, `"/${"a".repeat(95)}...`, "at most 1000 characters"],
  ])("refuses %s", (text, found, expected) => {
    expect(parsePathTemplate(text)).toEqual({ ok: false, found, expected });
  });
});

describe("PathTree", () => {
  const API = [
    "/",
    "/users",
    "/users/me",
    "/users/{name}",
    "/users/{name}.json",
    "/users/{name}.tar.gz",
    "/users/{name}/orders/*",
    "/users/me/orders/{id}/items",
    "/files/**",
    "/files/{name}",
    "/files/{name}/raw",
    "/files/v{major}.{minor}",
    "/café/{x}",
    "/dir/",
    "/both",
    "/both/",
    "/a//b",
    "/x/{a}{b}",
  ];
  it.each([
    ["the root", "/", "/"],
    ["a text", "/users", "/users"],
    ["a text before a parameter", "/users/me", "/users/me"],
    ["a parameter", "/users/you", "/users/{name}"],
    ["a text with a parameter before a parameter", "/users/you.json", "/users/{name}.json"],
    ["the one with more text first", "/users/a.tar.gz", "/users/{name}.tar.gz"],
    ["its parameter is not empty", "/users/.json", "/users/{name}"],
    ["a star is a segment", "/users/you/orders/7", "/users/{name}/orders/*"],
    ["and no more", "/users/you/orders/7/8", null],
    ["and no less", "/users/you/orders", null],
    ["a text that leads nowhere gives way", "/users/me/orders/7", "/users/{name}/orders/*"],
    ["and leads on where it does", "/users/me/orders/7/items", "/users/me/orders/{id}/items"],
    ["two stars are the rest", "/files/a/b/c", "/files/**"],
    ["nothing included", "/files/", "/files/**"],
    ["and not even the slash", "/files", "/files/**"],
    ["after all others", "/files/a", "/files/{name}"],
    ["deeper", "/files/a/raw", "/files/{name}/raw"],
    ["several parameters in a segment", "/files/v1.2", "/files/v{major}.{minor}"],
    ["none of them empty", "/files/v1.", "/files/{name}"],
    ["parameters without a text between", "/x/yz", "/x/{a}{b}"],
    ["of one character each at least", "/x/y", null],
    ["deeper than any template", `/files${"/a".repeat(500)}`, "/files/**"],
    ["the query does not count", "/users?x=/1", "/users"],
    ["nor the fragment", "/users#/1", "/users"],
    ["nor a segment's parameters", "/users;v=1/you;jsessionid=7", "/users/{name}"],
    ["escaped", "/caf%C3%A9/1", "/café/{x}"],
    ["not escaped", "/café/1", "/café/{x}"],
    ["a letter escaped", "/%75sers/me", "/users/me"],
    ["an escaped slash makes no segment", "/users/a%2Fb", "/users/{name}"],
    ["an escaped question mark neither", "/users/a%3Fb", "/users/{name}"],
    ["an escape that is none", "/users/%zz", "/users/{name}"],
    ["half a character", "/users/%C3", "/users/{name}"],
    ["of unreadable escapes what follows is taken as it is", "/%zz/%75sers", null],
    ["a slash at the end", "/users/you/", "/users/{name}"],
    ["at the end of the template", "/dir", "/dir/"],
    ["both ways, with", "/both/", "/both/"],
    ["both ways, without", "/both", "/both"],
    ["two slashes at the end", "/users/you//", null],
    ["an empty segment", "/a//b", "/a//b"],
    ["it is none to leave out", "/a/b", null],
    ["no parameter is empty", "/users//orders/7", null],
    ["dots are text", "/users/../orders/7", "/users/{name}/orders/*"],
    ["case counts", "/Users", null],
    ["a template finds itself", "/users/{name}/orders/*", "/users/{name}/orders/*"],
    ["a name of an object's", "/__proto__", null],
    ["nothing", "", null],
    ["no path", "users", null],
    ["OPTIONS of the whole server", "*", null],
    ["a URL", "http://a/users", null],
  ])("%s", (_, path, expected) => {
    expect(treeOf(...API).find("GET", path)).toBe(expected);
    expect(treeOf(...API.toReversed()).find("GET", path), "in another order").toBe(expected);
  });

  it("methods: a template is another's where it has none of its own", () => {
    const tree = treeOf("/a/{x}");
    add(tree, "/a/b", "GET");
    add(tree, "/a/{x}", "PUT");
    expect(tree.find("GET", "/a/b")).toBe("GET /a/b");
    expect(tree.find("DELETE", "/a/b")).toBe("/a/{x}");
    expect(tree.find("PUT", "/a/b")).toBe("PUT /a/{x}");
  });

  it("of templates alike the first stays", () => {
    expect(treeOf("/a/{x}", "/a/{y}", "/a/*").find("GET", "/a/1")).toBe("/a/{x}");
    expect(treeOf("/a/*", "/a/{y}/b").find("GET", "/a/1")).toBe("/a/*");
  });

  it("takes hostile paths in no time worth telling", () => {
    const branches = Array.from({ length: 12 }, (_, i) => `${"/a".repeat(i)}/{x}${"/a".repeat(40 - i)}/end`);
    const tree = treeOf("/a{x}b{y}a{z}b/c", "/{a}-{b}-{c}-{d}-{e}/x", ...branches);
    const begun = performance.now();
    for (const piece of ["/", "a", "/a", "ab", "%", "%zz/", "%41", ";", "-", "-a", "?"]) {
      for (let i = 0; i < 3; i++) expect(tree.find("GET", `/${piece.repeat(100_000)}`)).toBeNull();
    }
    expect(performance.now() - begun).toBeLessThan(1000);
  });
});

describe("of random templates and paths", () => {
  const NAMES = ["a", "b", "ab", "", "{x}", "{y}", "*", "a{x}", "{x}b", "a{x}b"];
  const PARTS = ["a", "b", "ab", "", "aab", "abb", "c", "%61", "a;v=1", "%zz"];

  /** Texts before parameters: the more text, the more specific. */
  const MIXED: Record<string, number> = { "a{x}b": 98, "{x}b": 99, "a{x}": 99.5 };

  /** How specific a template is for a path, segment by segment, less is more; null if it does not match. */
  function rank(template: string, path: string): number[] | null {
    const bare = path.split(/[?#]/)[0] as string;
    let isReadable = true;
    const parts = bare
      .slice(1)
      .split("/")
      .map((part) => {
        const name = part.split(";")[0] as string;
        if (name.includes("%zz")) isReadable = false;
        return isReadable ? name.replaceAll("%61", "a") : name;
      });
    const names = template.slice(1).split("/");
    const ranks: number[] = [];
    for (const [at, name] of names.entries()) {
      const part = parts[at];
      if (name === "**") return [...ranks, 9000]; // all that is left, and be it nothing
      if (part === undefined)
        return name === "" && at === parts.length && at === names.length - 1 ? [...ranks, 1] : null;
      if (name === part && !/[{*]/.test(name)) ranks.push(0);
      else if (part !== "" && /^(\{.\}|\*)$/.test(name)) ranks.push(500);
      else if (MIXED[name] && new RegExp(`^${name.replace(/\{.\}/, ".+")}$`).test(part)) ranks.push(MIXED[name]);
      else return null;
    }
    if (parts.length === names.length) return ranks;
    return parts.length === names.length + 1 && parts.at(-1) === "" ? [...ranks, 1000] : null;
  }

  function less(a: readonly number[], b: readonly number[]): boolean {
    const length = Math.max(a.length, b.length);
    for (let at = 0; at < length; at++) {
      const [left, right] = [a[at] ?? -1, b[at] ?? -1];
      if (left !== right) return left < right;
    }
    return false;
  }

  it("is what trying all of them one by one finds", () => {
    const draw = random(20_261_123);
    const one = <T>(values: readonly T[]): T => values[Math.floor(draw() * values.length)] as T;
    const some = (values: readonly string[]) => Array.from({ length: 1 + Math.floor(draw() * 3) }, () => one(values));
    let matched = 0;
    for (let i = 0; i < 400; i++) {
      const templates = Array.from({ length: 8 }, () => `/${some(NAMES).join("/")}${draw() < 0.1 ? "/**" : ""}`);
      const tree = treeOf(...templates);
      for (let j = 0; j < 40; j++) {
        const path = `/${some(PARTS).join("/")}${draw() < 0.1 ? "?a/b" : ""}`;
        let best: { template: string; ranks: number[] } | null = null;
        for (const template of templates) {
          const ranks = rank(template, path);
          if (ranks !== null && (best === null || less(ranks, best.ranks))) best = { template, ranks };
        }
        const found = tree.find("GET", path);
        if (found !== null) matched++;
        // Templates may differ in the names of their parameters alone.
        const shape = (template: string | null | undefined) =>
          template?.replaceAll(/\{.\}|(?<=\/)\*(?=\/|$)/g, "{}") ?? null;
        expect(shape(found), `${path} of ${templates.join(" ")}`).toBe(shape(best?.template));
      }
    }
    expect(matched).toBeGreaterThan(4000);
  });
});
