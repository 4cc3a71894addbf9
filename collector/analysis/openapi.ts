// OpenAPI files, 2.0 and 3.x, JSON or YAML -> the path templates of an API, base paths in front. The only reader of them.
// https://spec.openapis.org/oas/v3.1.1.html , https://spec.openapis.org/oas/v2.0.html
//
// A file is read once, at the start. Of an API only its paths count: whatever methods a path has, a request to it is one to that
// template.

import { readFileSync, statSync } from "node:fs";
import { isNode, LineCounter, parseDocument } from "yaml";
import { CollectorError, quote } from "../error.ts";
import { parsePathTemplate } from "./path-template.ts";

const MAX_FILE_BYTES = 16 * 2 ** 20;
/** As many base paths an API has at most: `servers`, each with all values of its variables. */
const MAX_BASE_PATHS = 100;
const METHODS = ["get", "put", "post", "delete", "options", "head", "patch", "trace"];

type Path = readonly string[];
type Mapping = Readonly<Record<string, unknown>>;

/** What is wrong with a file's values. */
class Misfit extends Error {
  constructor(
    readonly path: Path,
    readonly found: string,
    readonly expected: string,
  ) {
    super(`${path.join(".") || "the file"}: found ${found}, expected ${expected}`);
  }
}

/** The templates of a file. Throws CollectorError `config_invalid`: `shop.yaml:12:3: paths: found [1], expected a mapping of paths`. */
export function loadOpenApi(file: string): string[] {
  const text = readText(file);
  try {
    return readOpenApi(text);
  } catch (error: unknown) {
    throw new CollectorError("config_invalid", `${file}:${messageOf(error)}`, { cause: error });
  }
}

function readText(file: string): string {
  try {
    const { size } = statSync(file);
    if (size <= MAX_FILE_BYTES) return readFileSync(file, "utf8");
    throw new Error(`found ${size} bytes, expected at most ${MAX_FILE_BYTES / 2 ** 20}MiB`);
  } catch (error: unknown) {
    throw new CollectorError("config_invalid", `${file}: cannot be read: ${messageOf(error)}`, { cause: error });
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** The same of a text. Its fault has line and column in front: `12:3: paths: found [1], expected a mapping of paths`. */
export function readOpenApi(text: string): string[] {
  const value = /^\s*\{/.test(text) ? parseJson(text) : undefined;
  try {
    return templatesOf(value ?? parseYaml(text));
  } catch (error: unknown) {
    if (!(error instanceof Misfit)) throw error;
    throw new CollectorError("config_invalid", `${placeOf(text, error.path)}: ${error.message}`);
  }
}

/** Undefined of what is no JSON: YAML's reader takes more, and knows where a fault is. */
function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error: unknown) {
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
}

function parseYaml(text: string): unknown {
  const lines = new LineCounter();
  try {
    const document = parseDocument(text, { lineCounter: lines, prettyErrors: false });
    const [fault] = document.errors;
    if (fault === undefined) return document.toJS();
    const { line, col } = lines.linePos(fault.pos[0]);
    throw new CollectorError("config_invalid", `${line}:${col}: ${fault.message}`);
  } catch (error: unknown) {
    // The library gives up on thousands of nested brackets, and on too many aliases.
    if (error instanceof CollectorError) throw error;
    throw new CollectorError("config_invalid", `1:1: ${messageOf(error)}`);
  }
}

/** `LINE:COLUMN` of a value, or of the nearest one around it that there is. */
function placeOf(text: string, path: Path): string {
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines });
  for (let length = path.length; length > 0; length--) {
    const node = document.getIn(path.slice(0, length), true);
    if (!isNode(node) || !node.range) continue;
    const { line, col } = lines.linePos(node.range[0]);
    return `${line}:${col}`;
  }
  return "1:1";
}

function templatesOf(value: unknown): string[] {
  const api = mappingAt(value, [], "an OpenAPI file");
  const { swagger, openapi } = api;
  const isTwo = String(swagger) === "2.0" || swagger === 2;
  if (!isTwo && !/^3\.\d/.test(String(openapi))) {
    const [key, version] = swagger === undefined ? ["openapi", openapi] : ["swagger", swagger];
    throw new Misfit(version === undefined ? [] : [key], quote(version ?? null), 'openapi: 3.x or swagger: "2.0"');
  }
  const bases = isTwo ? [basePathOf(api["basePath"] ?? "", ["basePath"])] : basePathsOf(api["servers"], ["servers"]);
  const paths = Object.entries(mappingAt(api["paths"], ["paths"], "a mapping of paths"));
  const templates = paths
    .filter(([path]) => !path.startsWith("x-"))
    .flatMap(([path, item]) => templatesAt(path, item, bases ?? [""]));
  if (templates.length === 0) throw new Misfit(["paths"], "no path", "one at least");
  return [...new Set(templates)];
}

/** Servers may be told for the whole API, for a path, and for each of its operations; the nearest count. */
function templatesAt(path: string, value: unknown, bases: readonly string[]): string[] {
  const at = ["paths", path];
  const bare = path.split(/[?#]/, 1)[0] as string; // some write what tells operations apart behind them
  checkTemplate(bare, at);
  const item = value === null ? {} : mappingAt(value, at, "a mapping of methods");
  const own = basePathsOf(item["servers"], [...at, "servers"]) ?? bases;
  const operations = METHODS.flatMap((method) => {
    const operation = item[method];
    const servers = isMapping(operation) ? operation["servers"] : undefined;
    return operation === undefined ? [] : [basePathsOf(servers, [...at, method, "servers"]) ?? own];
  });
  const used = operations.length === 0 ? own : operations.flat();
  const templates = [...new Set(used)].map((base) => base + bare);
  for (const template of templates) checkTemplate(template, at);
  return templates;
}

function checkTemplate(text: string, path: Path): void {
  const parsed = parsePathTemplate(text);
  if (!parsed.ok) throw new Misfit(path, parsed.found, parsed.expected);
}

/** The base paths of a list of servers; null where there is none. */
function basePathsOf(servers: unknown, path: Path): string[] | null {
  if (servers === undefined || servers === null) return null;
  if (!Array.isArray(servers)) throw new Misfit(path, quote(servers), "a list of servers");
  const bases = servers.flatMap((server: unknown, index) => serverPaths(server, [...path, String(index)]));
  if (bases.length > MAX_BASE_PATHS) throw new Misfit(path, `${bases.length} base paths`, `at most ${MAX_BASE_PATHS}`);
  return bases.length === 0 ? null : bases;
}

/** `https://{region}.example.com/{version}` has a base path for each version. */
function serverPaths(value: unknown, path: Path): string[] {
  const { url, variables } = mappingAt(value, path, "a server with a url");
  if (typeof url !== "string")
    throw new Misfit([...path, "url"], quote(url ?? null), "a URL such as https://api.example.com/v1");
  const base = basePathOf(url, [...path, "url"]);
  let urls = [url];
  for (const [name, variable] of Object.entries(isMapping(variables) ? variables : {})) {
    // Of what does not stand in the path, the host, any value does.
    const values = base.includes(`{${name}}`) ? valuesOf(variable) : valuesOf(variable).slice(0, 1);
    urls = urls.flatMap((text) => values.map((each) => text.replaceAll(`{${name}}`, () => each)));
    if (urls.length > MAX_BASE_PATHS) throw new Misfit(path, `${urls.length} base paths`, `at most ${MAX_BASE_PATHS}`);
  }
  return urls.map((text) => basePathOf(text, path));
}

function valuesOf(variable: unknown): string[] {
  const { enum: values, default: usual } = isMapping(variable) ? variable : {};
  return (Array.isArray(values) && values.length > 0 ? values : [usual ?? ""]).map(String);
}

/** `/v1` of `https://api.example.com/v1/`, `/v1/`, `v1`; "" of the root. */
function basePathOf(url: unknown, path: Path): string {
  if (typeof url !== "string") throw new Misfit(path, quote(url), "a base path such as /v1");
  const bare = url.split(/[?#]/, 1)[0] as string;
  const [, rest = bare] = /^(?:[^/]*:)?\/\/[^/]*(.*)$/.exec(bare) ?? [];
  const trimmed = rest.replace(/^[./]+|\/+$/g, "");
  return trimmed === "" ? "" : `/${trimmed}`;
}

function mappingAt(value: unknown, path: Path, expected: string): Mapping {
  if (!isMapping(value)) throw new Misfit(path, quote(value ?? null), expected);
  return value;
}

function isMapping(value: unknown): value is Mapping {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
