import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { loadOpenApi, readOpenApi } from "../../collector/analysis/openapi.ts";
import { CollectorError } from "../../collector/error.ts";

const folder = mkdtempSync(join(tmpdir(), "meshtally-openapi-"));
afterAll(() => rmSync(folder, { recursive: true }));

function faultOf(read: () => unknown): string {
  try {
    read();
  } catch (error: unknown) {
    if (!(error instanceof CollectorError)) throw error;
    expect(error.code).toBe("config_invalid");
    return error.message;
  }
  return "none";
}

describe("the templates of a file", () => {
  it.each<[string, object, string[]]>([
    ["version 3", { openapi: "3.1.1", paths: { "/users/{id}": { get: {} } } }, ["/users/{id}"]],
    ["version 2 with a base path", { swagger: "2.0", basePath: "/v1/", paths: { "/a": {} } }, ["/v1/a"]],
    ["version 2 at the root", { swagger: "2.0", basePath: "/", host: "x", paths: { "/a": {} } }, ["/a"]],
    [
      "servers",
      {
        openapi: "3.0.3",
        servers: [{ url: "https://api.example.com/v1/" }, { url: "/v2?x" }, { url: "./v3" }, { url: "//h" }],
        paths: { "/a": { get: {} } },
      },
      ["/v1/a", "/v2/a", "/v3/a", "/a"],
    ],
    [
      "servers of a path and of an operation",
      {
        openapi: "3.0.0",
        servers: [{ url: "/all" }],
        paths: {
          "/a": { servers: [{ url: "/path" }], get: {}, post: { servers: [{ url: "/operation" }] } },
          "/b": { get: {} },
        },
      },
      ["/path/a", "/operation/a", "/all/b"],
    ],
    [
      "variables of a server",
      {
        openapi: "3.0.0",
        servers: [
          {
            url: "{scheme}://{region}.example.com/{stage}/{version}",
            variables: {
              scheme: { default: "https", enum: ["https", "http"] },
              region: { default: "eu", enum: ["eu", "us"] },
              stage: { default: "prod" },
              version: { default: "v2", enum: ["v1", "v2"] },
            },
          },
        ],
        paths: { "/a": {} },
      },
      ["/prod/v1/a", "/prod/v2/a"],
    ],
    [
      "a variable that is the whole URL",
      {
        openapi: "3.0.0",
        servers: [{ url: "{base}/x", variables: { base: { default: "https://h/y" } } }],
        paths: { "/a": {} },
      },
      ["/y/x/a"],
    ],
    ["a variable without a value", { openapi: "3.0.0", servers: [{ url: "/{v}" }], paths: { "/a": {} } }, ["/{v}/a"]],
    ["no servers", { openapi: "3.0.0", servers: [], paths: { "/a": null, "/": {} } }, ["/a", "/"]],
    ["extensions are no paths", { openapi: "3.0.0", paths: { "x-a": 1, "/a": {} } }, ["/a"]],
    ["what tells operations apart behind a path", { openapi: "3.0.0", paths: { "/a?x=1": {}, "/a#2": {} } }, ["/a"]],
    ["a reference", { openapi: "3.0.0", paths: { "/a": { $ref: "a.yaml" } } }, ["/a"]],
  ])("%s", (_, api, expected) => {
    expect(readOpenApi(JSON.stringify(api))).toEqual(expected);
    expect(readOpenApi(`# YAML\n${JSON.stringify(api, null, 2)}`)).toEqual(expected);
  });

  it("of YAML, with its numbers and anchors", () => {
    const text = ["swagger: 2.0", "basePath: /v1", "paths:", "  /a: &a", "    get: {}", "  /b: *a"].join("\n");
    expect(readOpenApi(text)).toEqual(["/v1/a", "/v1/b"]);
  });
});

describe("a broken file", () => {
  const three = (rest: string) => `openapi: 3.0.0\n${rest}`;
  it.each([
    ["no mapping", "- 1", "1:1: the file: found [1], expected an OpenAPI file"],
    ["nothing", "", "1:1: the file: found null, expected an OpenAPI file"],
    ["no version", "paths: {}", '1:1: the file: found null, expected openapi: 3.x or swagger: "2.0"'],
    ["another version", "openapi: 4.0.0", '1:10: openapi: found "4.0.0", expected openapi: 3.x or swagger: "2.0"'],
    ["an old one", 'swagger: "1.2"', '1:10: swagger: found "1.2", expected openapi: 3.x or swagger: "2.0"'],
    ["paths that are a list", three("paths:\n  - /a"), '3:3: paths: found ["/a"], expected a mapping of paths'],
    ["no paths", three("info: {}"), "1:1: paths: found null, expected a mapping of paths"],
    ["an empty mapping", three("paths: {}"), "2:8: paths: found no path, expected one at least"],
    [
      "a path that is none",
      three("paths:\n  /a: {}\n  b: {}"),
      '4:6: paths.b: found "b", expected a path that begins with "/"',
    ],
    [
      "a brace that is open",
      three("paths:\n  /a/{b: {}"),
      '3:10: paths./a/{b: found "{b" in "/a/{b", expected each "{" closed by a "}" in the same segment',
    ],
    ["a path item that is none", three("paths:\n  /a: 7"), "3:7: paths./a: found 7, expected a mapping of methods"],
    ["servers that are none", three("servers: /v1"), '2:10: servers: found "/v1", expected a list of servers'],
    [
      "a server without a URL",
      three("servers:\n  - url: /v1\n  - x: 1"),
      "4:5: servers.1.url: found null, expected a URL such as https://api.example.com/v1",
    ],
    [
      "more base paths than an API has",
      three(`servers: [${'{url: "/x"},'.repeat(101)}]`),
      "2:10: servers: found 101 base paths, expected at most 100",
    ],
    [
      "a base path that is none",
      "swagger: '2.0'\nbasePath: 7\npaths: {}",
      "2:11: basePath: found 7, expected a base path such as /v1",
    ],
    ["broken YAML", "openapi: [", "1:11: Flow sequence in block collection must be"],
    ["broken JSON", '{\n  "openapi": "3.0.0",\n  "paths": {', "3:13: "],
    ["more brackets than can be read", "[".repeat(100_000), ": Maximum call stack size exceeded"],
    [
      "a bomb of aliases",
      `a: &a [x]\n${"bcdefgh".replace(/./g, (name, at) => `${name}: &${name} [${`*${"abcdefg"[at]},`.repeat(10)}]\n`)}`,
      "1:1: Excessive alias count",
    ],
  ])("%s", (_, text, expected) => {
    expect(faultOf(() => readOpenApi(text))).toContain(expected);
  });

  it("of JSON is told with its line, too", () => {
    const text = JSON.stringify({ openapi: "3.0.0", paths: { "/a": {}, "/{": {} } }, null, 2);
    expect(faultOf(() => readOpenApi(text))).toMatch(/^5:11: paths\.\/\{: found "\{" in "\/\{", expected each/);
  });
});

describe("loadOpenApi", () => {
  it("reads a file, and names it in its fault", () => {
    const path = join(folder, "shop.yaml");
    writeFileSync(path, "openapi: 3.0.0\npaths: { /a: {} }");
    expect(loadOpenApi(path)).toEqual(["/a"]);
    writeFileSync(path, "openapi: 3.0.0\npaths: [1]");
    expect(faultOf(() => loadOpenApi(path))).toBe(`${path}:2:8: paths: found [1], expected a mapping of paths`);
  });

  it("says so when there is none, or it is too long", () => {
    expect(faultOf(() => loadOpenApi(join(folder, "none")))).toMatch(/none: cannot be read: ENOENT/);
    expect(faultOf(() => loadOpenApi(folder))).toMatch(/cannot be read: EISDIR/);
    const path = join(folder, "long.json");
    writeFileSync(path, Buffer.alloc(2 ** 24 + 1, " "));
    expect(faultOf(() => loadOpenApi(path))).toBe(
      `${path}: cannot be read: found 16777217 bytes, expected at most 16MiB`,
    );
  });
});
