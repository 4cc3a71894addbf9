// Endpoints: what a request is counted as, `GET:/users/{name}/orders/{id}`. The first that knows its path counts:
//
//   1. rules that are path templates, the most specific
//   2. rules that are regular expressions, in their order
//   3. templates of OpenAPI files, the most specific
//   4. gRPC methods, which stay as they are
//   5. the path with what looks like an identifier folded (endpoint.ts)

import { CollectorError } from "../error.ts";
import { pathTemplate, shorten } from "./endpoint.ts";
import { PathTree, parsePathTemplate } from "./path-template.ts";
import { patternOf } from "./pattern.ts";
import { PerService, type ServiceName, ServicePattern } from "./per-service.ts";
import type { Protocol } from "./side.ts";

/** A rule as it is written, checked. What is left out matches all. */
export interface EndpointRule {
  /** Regular expression of the service's name. */
  readonly service?: string;
  /** "GET". */
  readonly method?: string;
  /** A template such as /users/{name}, or a regular expression that begins with ^. */
  readonly path: string;
  /** The endpoint's name; a template without one gives METHOD:TEMPLATE. */
  readonly endpoint?: string;
}

/** The templates of an OpenAPI file (openapi.ts), and whose they are. */
interface OpenApiRule {
  readonly service: string;
  readonly templates: readonly string[];
}

export interface EndpointRules {
  readonly rules: readonly EndpointRule[];
  readonly openapi: readonly OpenApiRule[];
}

/** Longer paths are not tried against regular expressions, nor remembered. */
const MAX_REGEX_PATH = 1000;
const MAX_REMEMBERED_PATH = 256;
/** Of each set of rules. */
const MAX_REMEMBERED = 2000;

/** `/reviews.v1.Reviews/List`. */
const GRPC_PATH = /^\/[A-Za-z_][\w.]*\/[A-Za-z_]\w*$/;
const MAX_GRPC_PATH = 128;

export function isRegexPath(path: string): boolean {
  return path.startsWith("^");
}

/** Methods as access logs have them: envoy.config.core.v3.RequestMethod. */
export const METHODS = ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"] as const;

/** Whose a rule or file is. */
interface Scope {
  readonly id: string;
  readonly pattern: ServicePattern;
}

export class Endpoints {
  private readonly rules: readonly (Scope & { readonly rule: EndpointRule })[];
  private readonly files: readonly (Scope & { readonly templates: readonly string[] })[];
  /** By which rules and files they were made of: most services share one. */
  private readonly naming = new Map<string, Naming>();
  private readonly byService = new PerService((service) => this.namingOf(service));

  constructor({ rules, openapi }: EndpointRules) {
    this.rules = rules.map((rule, index) => ({ id: `rule ${index}`, pattern: servicePattern(rule.service), rule }));
    this.files = openapi.map(({ service, templates }, index) => ({
      id: `file ${index}`,
      pattern: servicePattern(service),
      templates,
    }));
  }

  /**
   * The endpoint of a request to a service. `service`, `namespace`: null where they are not known; `method`: as Envoy names it, "GET";
   * `path`: whatever was asked for. Behind the method it has at most 128 characters.
   */
  of(
    service: string | null,
    namespace: string | null,
    method: string,
    path: string,
    protocol: Protocol = "http",
  ): string {
    return this.byService.of(namespace, service).endpointOf(method, path, protocol === "grpc");
  }

  /** Whether anything is configured: else paths are folded alike for all services. */
  get hasRules(): boolean {
    return this.rules.length > 0 || this.files.length > 0;
  }

  private namingOf(service: ServiceName): Naming {
    const rules = this.rules.filter(({ pattern }) => pattern.matches(service));
    const files = this.files.filter(({ pattern }) => pattern.matches(service));
    const key = [...rules, ...files].map(({ id }) => id).join();
    const known = this.naming.get(key);
    if (known !== undefined) return known;
    const made = new Naming(
      rules.map(({ rule }) => rule),
      files.flatMap(({ templates }) => templates),
    );
    this.naming.set(key, made);
    return made;
  }
}

function servicePattern(name: string | undefined): ServicePattern {
  return new ServicePattern(name === undefined ? {} : { name });
}

/** How the endpoints of some services are named. */
class Naming {
  /** The value: an endpoint's name, or what follows the method. */
  private readonly templates = new PathTree<Name>();
  private readonly regexes: readonly RegexRule[];
  private readonly openapi = new PathTree<Name>();
  private readonly http = new Map<string, Map<string, string>>();
  private readonly grpc = new Map<string, Map<string, string>>();
  private remembered = 0;

  constructor(rules: readonly EndpointRule[], templates: readonly string[]) {
    for (const { path, method, endpoint } of rules) {
      if (!isRegexPath(path)) addTemplate(this.templates, path, method ?? null, endpoint ?? null);
    }
    this.regexes = rules.filter(({ path }) => isRegexPath(path)).map(regexRule);
    for (const template of templates) addTemplate(this.openapi, template, null, null);
  }

  endpointOf(method: string, path: string, isGrpc: boolean): string {
    const known = (isGrpc ? this.grpc : this.http).get(method)?.get(path);
    if (known !== undefined) return known;
    const name = this.nameOf(method, path, isGrpc);
    const endpoint = name.endpoint ?? `${method}:${name.path}`;
    if (path.length <= MAX_REMEMBERED_PATH) this.remember(isGrpc ? this.grpc : this.http, method, path, endpoint);
    return endpoint;
  }

  private nameOf(method: string, path: string, isGrpc: boolean): Name {
    const found = this.templates.find(method, path) ?? this.byRegex(method, path) ?? this.openapi.find(method, path);
    if (found !== null) return found;
    const isMethod = isGrpc && path.length <= MAX_GRPC_PATH && GRPC_PATH.test(path);
    return { endpoint: null, path: isMethod ? path : pathTemplate(path) };
  }

  private byRegex(method: string, path: string): Name | null {
    if (this.regexes.length === 0 || path.length > MAX_REGEX_PATH) return null;
    const bare = path.split(/[?#]/, 1)[0] as string;
    const rule = this.regexes.find((each) => (each.method === null || each.method === method) && each.path.test(bare));
    return rule?.name ?? null;
  }

  private remember(cache: Map<string, Map<string, string>>, method: string, path: string, endpoint: string): void {
    if (this.remembered >= MAX_REMEMBERED) {
      this.http.clear();
      this.grpc.clear();
      this.remembered = 0;
    }
    const byPath = cache.get(method) ?? new Map<string, string>();
    byPath.set(path, endpoint);
    cache.set(method, byPath);
    this.remembered++;
  }
}

interface Name {
  readonly endpoint: string | null;
  readonly path: string;
}

interface RegexRule {
  readonly method: string | null;
  readonly path: RegExp;
  readonly name: Name;
}

function regexRule({ path, method, endpoint = path }: EndpointRule): RegexRule {
  return { method: method ?? null, path: patternOf(path), name: { endpoint, path } };
}

function addTemplate(tree: PathTree<Name>, text: string, method: string | null, endpoint: string | null): void {
  const parsed = parsePathTemplate(text);
  if (!parsed.ok) throw new CollectorError("internal", `a path template that was not checked: ${parsed.found}`);
  tree.add(parsed.template, method, { endpoint, path: shorten(text.split("/")) });
}
