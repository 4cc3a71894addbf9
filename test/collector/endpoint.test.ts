import { describe, expect, it } from "vitest";
import { pathTemplate } from "../../collector/analysis/endpoint.ts";
import { random } from "../property/random.ts";

const UUID = "7f1c2a34-0b1c-4d5e-8f90-a1b2c3d4e5f6";
const JWT = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxMjM0NTY3ODkwIiwibmFtZSI6IkpvaG4ifQ.SflKxwRJSMeKKF2QT4fw";

describe("pathTemplate", () => {
  it.each([
    ["a name stays", "/productpage", "/productpage"],
    ["the root", "/", "/"],
    ["nothing is the root", "", "/"],
    ["a path of parameters alone is the root", ";a=1", "/"],
    ["OPTIONS of the whole server", "*", "*"],
    ["a number", "/reviews/42", "/reviews/{id}"],
    ["several", "/users/7/orders/9", "/users/{id}/orders/{id}"],
    ["a negative one", "/offset/-3", "/offset/{id}"],
    ["a date", "/days/2026-01-31", "/days/{id}"],
    ["a list of numbers", "/items/1,2,3", "/items/{id}"],
    ["a UUID", `/o/${UUID}/x`, "/o/{id}/x"],
    ["a UUID in capitals and braces", `/o/{${UUID.toUpperCase()}}`, "/o/{id}"],
    ["a UUID without dashes", `/o/${UUID.replaceAll("-", "")}`, "/o/{id}"],
    ["hex", "/commits/5839d2ad", "/commits/{id}"],
    ["hex with its prefix", "/tx/0x5839D2AD", "/tx/{id}"],
    ["a prefixed number", "/orders/order-12345", "/orders/{id}"],
    ["a JWT", `/verify/${JWT}`, "/verify/{id}"],
    ["a long token", "/t/3mXk9qLwZr7TbVn2PcYs", "/t/{id}"],
    ["a short one of mixed cases", "/watch/dQw4w9WgXcQ", "/watch/{id}"],
    ["a long segment of whatever", `/s/${"word-".repeat(14)}`, "/s/{id}"],
    ["a file named by a number", "/img/12.png", "/img/{id}.png"],
    ["a file named by hex", "/js/5839d2ad77.js", "/js/{id}.js"],
    ["the query", "/reviews/42?full=1&id=7", "/reviews/{id}"],
    ["a query of slashes", "/a?b=/1/2", "/a"],
    ["the fragment", "/a#b/1", "/a"],
    ["parameters of a segment", "/a;jsessionid=1F2E/b;v=2", "/a/b"],
    ["a trailing slash", "/reviews/42/", "/reviews/{id}/"],
    ["a version of an API stays", "/api/v1/users", "/api/v1/users"],
    ["a dotted version stays", "/api/1.0/users", "/api/1.0/users"],
    ["a version in a name stays", "/apis/v1beta1/reviews-v2", "/apis/v1beta1/reviews-v2"],
    ["a long name stays", "/internal/customer-notification-preferences", "/internal/customer-notification-preferences"],
    ["a word of hex letters stays", "/defaced/facade", "/defaced/facade"],
    [
      "a gRPC method stays",
      "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
      "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
    ],
    ["a product's name with a digit stays", "/login/OAuth2Callback", "/login/OAuth2Callback"],
    ["an escaped name stays as it is written", "/caf%C3%A9/%E6%97%A5", "/caf%C3%A9/%E6%97%A5"],
    ["dots are text", "/../../etc/passwd", "/../../etc/passwd"],
    ["a name of an object's is text", "/__proto__/constructor", "/__proto__/constructor"],
    ["markup is text", "/<script>", "/<script>"],
    ["control characters are text", "/a\nb\u0000", "/a\nb\u0000"],
    ["a template is its own", "/reviews/{id}/{more}", "/reviews/{id}/{more}"],
    ["a deep path", `/${"a/".repeat(20)}`, `${"/a".repeat(12)}/{more}`],
    ["as deep as goes", "/a".repeat(12), "/a".repeat(12)],
    ["a long path", `/${"abcdefghijklmnopqrstuvwxyz/".repeat(8)}`, `/${"abcdefghijklmnopqrstuvwxyz/".repeat(4)}{more}`],
  ])("%s", (_, path, template) => {
    expect(pathTemplate(path)).toBe(template);
  });

  const PIECES = [
    "/",
    "/",
    "a",
    "B",
    "7",
    "42",
    "-",
    "_",
    ".",
    ";",
    "?",
    "#",
    "%2F",
    "{id}",
    "{more}",
    "é",
    "\n",
    "\0",
  ];
  const LONG = [UUID, JWT, "x".repeat(70), "9".repeat(400), "/".repeat(300), "a1".repeat(40), ".png", "日本", "\ud800"];

  it("of any text is bounded, has no query, and is its own template", () => {
    const draw = random(20_261_121);
    for (let i = 0; i < 20_000; i++) {
      const length = Math.floor(draw() * 40);
      const pieces = draw() < 0.5 ? PIECES : [...PIECES, ...LONG];
      const path = Array.from({ length }, () => pieces[Math.floor(draw() * pieces.length)]).join("");
      const template = pathTemplate(path);
      expect(template.length, path).toBeGreaterThan(0);
      expect(template.length, path).toBeLessThanOrEqual(128);
      expect(template, path).not.toMatch(/[?#;]/);
      expect(pathTemplate(template), path).toBe(template);
    }
  });

  it("has few templates for many ids", () => {
    const draw = random(7);
    const token = (alphabet: string, length: number) =>
      Array.from({ length }, () => alphabet[Math.floor(draw() * alphabet.length)]).join("");
    const templates = new Set<string>();
    for (let i = 0; i < 5000; i++) {
      templates.add(pathTemplate(`/a/${i}`));
      templates.add(pathTemplate(`/a/${token("0123456789abcdef", 32)}`));
      templates.add(pathTemplate(`/a/${token("ABCDEFGHJKMNPQRSTVWXYZ0123456789", 26)}`)); // ULID
    }
    expect(templates).toContain("/a/{id}");
    expect(templates.size).toBeLessThan(20); // of 15,000 paths: once in a while a token has hardly a digit
  });

  it("takes a megabyte in no time worth telling", () => {
    const begun = performance.now();
    for (const piece of ["/", "a", "1", "1-", "a.b", ";", "%41", "*"]) pathTemplate(`/${piece.repeat(500_000)}`);
    expect(performance.now() - begun).toBeLessThan(1000);
  });
});
