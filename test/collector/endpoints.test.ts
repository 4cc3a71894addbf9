import { describe, expect, it } from "vitest";
import { pathTemplate } from "../../collector/analysis/endpoint.ts";
import { type EndpointRule, Endpoints, METHODS } from "../../collector/analysis/endpoints.ts";
import { random } from "../property/random.ts";

const LONG_TEMPLATE = `/${"segment-of-some-length/".repeat(10)}{id}`;

const endpoints = new Endpoints({
  rules: [
    { path: "/users/{name}/orders/*" },
    { path: "/users/me", method: "GET" },
    { path: "/users/{name}", method: "POST", endpoint: "new user" },
    { service: "web|shop", path: "/login/{provider}", endpoint: "login" },
    { service: "web", path: "^/login/.*", endpoint: "any login" },
    { path: "^/assets/.+\\.(js|css)", endpoint: "assets" },
    { path: "^/assets/.+", method: "PUT", endpoint: "upload" },
    { path: "^/special/[^/]+", endpoint: "special" },
    { service: "deep", path: LONG_TEMPLATE },
    { service: "rpc", path: "/reviews.v1.Reviews/{method}" },
  ],
  openapi: [
    { service: "reviews", templates: ["/reviews/{reviewId}", "/reviews/latest", "/users/{id}", "/assets/{file}"] },
    { service: "rev.*", templates: ["/reviews/{x}/stars", "/reviews/{reviewId}/again"] },
  ],
});

describe("Endpoints", () => {
  it.each([
    ["a rule's template", "any", "GET", "/users/ann/orders/7", "GET:/users/{name}/orders/*"],
    ["with the method of the request", "any", "DELETE", "/users/ann/orders/7", "DELETE:/users/{name}/orders/*"],
    ["a rule of a method", "any", "GET", "/users/me", "GET:/users/me"],
    ["not of another", "any", "POST", "/users/me", "new user"],
    ["a rule's name stands for method and path", "any", "POST", "/users/ann?x=1", "new user"],
    ["a service's rule", "web", "GET", "/login/7", "login"],
    ["not another's", "any", "GET", "/login/7", "GET:/login/{id}"],
    ["a template before a regular expression", "web", "GET", "/login/a", "login"],
    ["a regular expression", "web", "GET", "/login/a/b", "any login"],
    ["the first of several", "any", "PUT", "/assets/a/b.js", "assets"],
    ["by method", "any", "PUT", "/assets/a/b.png", "upload"],
    ["not by another", "any", "GET", "/assets/a/b.png", "GET:/assets/a/b.png"],
    ["it matches the whole path", "any", "GET", "/special/a/b", "GET:/special/a/b"],
    ["without the query", "any", "GET", "/special/a?b/c", "special"],
    ["a regular expression before OpenAPI", "reviews", "GET", "/assets/x.js", "assets"],
    ["OpenAPI", "reviews", "GET", "/reviews/abc", "GET:/reviews/{reviewId}"],
    ["a text before a parameter", "reviews", "GET", "/reviews/latest", "GET:/reviews/latest"],
    ["whatever the method", "reviews", "PATCH", "/reviews/latest", "PATCH:/reviews/latest"],
    ["several files of a service", "reviews", "GET", "/reviews/a/stars", "GET:/reviews/{x}/stars"],
    ["another's file", "web", "GET", "/reviews/abc", "GET:/reviews/abc"],
    ["a rule before OpenAPI", "reviews", "POST", "/users/7", "new user"],
    ["OpenAPI before folding", "reviews", "GET", "/users/7", "GET:/users/{id}"],
    ["folding", "any", "GET", "/carts/42?x=1", "GET:/carts/{id}"],
    ["nothing", "any", "GET", "", "GET:/"],
    ["OPTIONS of the whole server", "any", "OPTIONS", "*", "OPTIONS:*"],
    ["a method that Envoy does not know", "any", "METHOD_UNSPECIFIED", "/a/1", "METHOD_UNSPECIFIED:/a/{id}"],
    ["a trailing slash", "any", "GET", "/users/ann/orders/7/", "GET:/users/{name}/orders/*"],
    [
      "a template that is too long, cut",
      "deep",
      "GET",
      LONG_TEMPLATE.replace("{id}", "7"),
      `GET:/${"segment-of-some-length/".repeat(5)}{more}`,
    ],
    ["a path too long for regular expressions", "any", "GET", `/special/${"a".repeat(1000)}`, "GET:/special/{id}"],
  ])("%s", (_, service, method, path, expected) => {
    expect(endpoints.of(service, "default", method, path)).toBe(expected);
    expect(endpoints.of(service, "default", method, path), "remembered").toBe(expected);
  });

  it("services go by both their names, and by none", () => {
    expect(endpoints.of("web.default", "default", "GET", "/login/a")).toBe("login");
    expect(endpoints.of("web", null, "GET", "/login/a")).toBe("login");
    expect(endpoints.of(null, null, "GET", "/login/a")).toBe("GET:/login/a");
  });

  it.each([
    ["/reviews.v1.Reviews/List12345", "/reviews.v1.Reviews/List12345"],
    ["/Greeter/SayHello", "/Greeter/SayHello"],
    ["/a/b/12345", "/a/b/{id}"],
    ["/a.B/c%20d12345", "/a.B/{id}"],
    ["/a.B/12345", "/a.B/{id}"],
    [`/a.B/${"c".repeat(130)}`, "/a.B/{id}"],
  ])("gRPC's method %s is %s", (path, expected) => {
    expect(endpoints.of("any", "default", "POST", path, "grpc")).toBe(`POST:${expected}`);
    expect(endpoints.of("any", "default", "POST", path)).toBe(`POST:${pathTemplate(path)}`);
  });

  it("a rule may name gRPC's methods, too", () => {
    const endpoint = endpoints.of("rpc", "default", "POST", "/reviews.v1.Reviews/List", "grpc");
    expect(endpoint).toBe("POST:/reviews.v1.Reviews/{method}");
  });

  it("without rules is folding alone", () => {
    const bare = new Endpoints({ rules: [], openapi: [] });
    for (const path of ["/a/1", "", "*", "/x?1", "/%zz"]) {
      expect(bare.of("s", "n", "GET", path)).toBe(`GET:${pathTemplate(path)}`);
    }
  });
});

describe("of random paths", () => {
  const PIECES = [
    "users",
    "me",
    "7",
    "orders",
    "a",
    "x.json",
    "{id}",
    "{more}",
    "*",
    "%41",
    "%zz",
    ";v",
    "?q/",
    "#",
    "",
    "é",
    "\0",
    "\ud800",
  ];
  const LONG = ["/".repeat(300), "9".repeat(500), "a-".repeat(80), "%".repeat(200), "{".repeat(100)];
  const rules: EndpointRule[] = [
    { path: "/users/{name}" },
    { path: "/users/me/orders" },
    { path: "/users/{name}/orders/{id}" },
    { path: "/a/**" },
    { path: "/orders/{id}.json", method: "GET" },
  ];
  const templated = new Endpoints({ rules, openapi: [{ service: ".*", templates: ["/me/{x}", "/users/{y}/a"] }] });

  it("an endpoint is bounded, has no query, and is its own", () => {
    const draw = random(20_261_124);
    const seen = new Set<string>();
    for (let i = 0; i < 15_000; i++) {
      const pieces = draw() < 0.7 ? PIECES : [...PIECES, ...LONG];
      const segments = Array.from({ length: Math.floor(draw() * 6) }, () => pieces[Math.floor(draw() * pieces.length)]);
      const path = (draw() < 0.95 ? "/" : "") + segments.join("/");
      const method = METHODS[Math.floor(draw() * 3)] as string;
      const endpoint = templated.of("s", "n", method, path);
      const template = endpoint.slice(method.length + 1);
      expect(endpoint.startsWith(`${method}:`), path).toBe(true);
      expect(template.length, path).toBeGreaterThan(0);
      expect(template.length, path).toBeLessThanOrEqual(128);
      expect(template, path).not.toMatch(/[?#;]/);
      // `;v/a` begins with a segment that folding leaves empty: only then it is a path from the root.
      if (path.startsWith("/")) expect(templated.of("s", "n", method, template), path).toBe(endpoint);
      seen.add(template);
    }
    for (const { path } of rules) expect([...seen]).toContain(path);
  });

  it("is the same whether it is remembered or not, however many there are", () => {
    const draw = random(5);
    const once = (path: string) => new Endpoints({ rules, openapi: [] }).of("s", "n", "GET", path);
    const many = new Endpoints({ rules, openapi: [] });
    for (let i = 0; i < 5000; i++) many.of(`s${i}`, "n", "GET", `/users/${i}`);
    for (let i = 0; i < 300; i++) {
      const path = `/users/${Math.floor(draw() * 20)}${draw() < 0.5 ? "/orders/x" : ""}`;
      expect(many.of("s", "n", "GET", path)).toBe(once(path));
    }
  });

  it("takes a megabyte in no time worth telling", () => {
    const begun = performance.now();
    for (const piece of ["/", "a", "/a", "1-", "%41", "%", ";", "{", "/users"]) {
      endpoints.of("reviews", "default", "GET", `/${piece.repeat(500_000)}`);
    }
    expect(performance.now() - begun).toBeLessThan(1000);
  });
});
