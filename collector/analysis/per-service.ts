// What is configured per service: which services a pattern names, and what was found for each, so that patterns are tried once.

import { patternOf } from "./pattern.ts";

/** Names in Kubernetes have up to 253 characters. */
const MAX_NAME_LENGTH = 256;
const MAX_SERVICES = 10_000;

/** A service in both the ways in which it is named: Istio's canonical name, and that with the namespace behind it. */
export interface ServiceName {
  /** "" when it is not known. */
  readonly namespace: string;
  /** `reviews`. */
  readonly bare: string;
  /** `reviews.default`; the same as `bare` without a namespace. */
  readonly full: string;
}

/** Both names of `reviews`, or `reviews.default`, in namespace `default`. */
function serviceName(namespace: string, service: string): ServiceName {
  const suffix = `.${namespace}`;
  if (namespace === "") return { namespace, bare: service, full: service };
  const bare = service.endsWith(suffix) ? service.slice(0, -suffix.length) : service;
  return { namespace, bare, full: bare + suffix };
}

/** Regular expressions that were checked (pattern.ts); what is left out matches all. */
export interface ServiceSelector {
  readonly namespace?: string;
  /** Of either name of the service. */
  readonly name?: string;
}

export class ServicePattern {
  private readonly namespace: RegExp | null;
  private readonly name: RegExp | null;

  constructor({ namespace, name }: ServiceSelector) {
    this.namespace = namespace === undefined ? null : patternOf(namespace);
    this.name = name === undefined ? null : patternOf(name);
  }

  matches({ namespace, bare, full }: ServiceName): boolean {
    if (this.namespace !== null && !this.namespace.test(namespace)) return false;
    return this.name === null || this.name.test(bare) || this.name.test(full);
  }
}

/** Remembers what `make` gave for a service; when it is full it starts over. A look-up allocates nothing. */
export class PerService<T> {
  private readonly byService = new Map<string, Map<string, T>>();
  private size = 0;

  constructor(private readonly make: (service: ServiceName) => T) {}

  /** Null stands for what is not known. A longer name than there is counts by its beginning. */
  of(namespace: string | null, service: string | null): T {
    const space = bounded(namespace);
    const name = bounded(service);
    const known = this.byService.get(name)?.get(space);
    return known === undefined ? this.add(space, name) : known;
  }

  private add(namespace: string, service: string): T {
    if (this.size >= MAX_SERVICES) {
      this.byService.clear();
      this.size = 0;
    }
    const value = this.make(serviceName(namespace, service));
    const byNamespace = this.byService.get(service) ?? new Map<string, T>();
    byNamespace.set(namespace, value);
    this.byService.set(service, byNamespace);
    this.size++;
    return value;
  }
}

function bounded(name: string | null): string {
  if (name === null) return "";
  return name.length > MAX_NAME_LENGTH ? name.slice(0, MAX_NAME_LENGTH) : name;
}
