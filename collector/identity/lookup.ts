// Address -> who is behind it, by what Kubernetes says. Made anew from each set of objects, and not changed from then on.
//
// An address is named by the first of: a ServiceEntry that names it; a node (its processes and the pods of its network share it, so
// only a port tells them apart, and from Services that have it on every node); a pod; a WorkloadEntry; a Service's own address; a Service's endpoint; the smallest CIDR block of a
// ServiceEntry that holds it.

import { addressKey, type Block, keyOfNumber, parseAddress, parseBlock } from "./address.ts";
import type { NameRule, ObjectName } from "./names.ts";
import type { Objects, Pod, Service, ServiceEntry, WorkloadEntry } from "./objects.ts";

export interface Identity {
  readonly kind: "pod" | "workload_entry" | "service_entry" | "service";
  /** By `identity.names`. */
  readonly service: string;
  readonly instance: string;
  readonly namespace: string;
  /** "" of a service. */
  readonly workload: string;
  /** The name of the pod; "" of anything else. */
  readonly pod: string;
  readonly canonicalService: string;
  readonly labels: ReadonlyMap<string, string>;
  /** The service that a client calls here; null when none is known. */
  readonly called: CalledService | null;
}

/** As Istio's labels name it. */
interface CalledService {
  /** `reviews.default.svc.cluster.local`, or the host of a ServiceEntry. */
  readonly host: string;
  readonly name: string;
  readonly namespace: string;
}

/** Who is who by Kubernetes objects. */
export interface AddressLookup {
  /** Another number when the objects were read anew: what was made of the answers before holds no longer. */
  readonly version: number;
  /** Who is behind an address; the port counts on nodes only. Null when nobody knows, or too many share it. */
  find(address: string, port: number): Identity | null;
  /** Whether the address is a node's, so that only a port can tell whose it is. */
  isShared(address: string): boolean;
  /** The pod of that name, whatever its address: so a proxy is found that shares one. */
  findPod(namespace: string, name: string): Identity | null;
  /** The Service or ServiceEntry of a host: `reviews.default.svc.cluster.local`; `a.example.com` is of `*.example.com`, too. */
  findHost(host: string): Identity | null;
}

export interface NameRules {
  readonly service: NameRule;
  readonly instance: NameRule;
  /** Behind `NAME.NAMESPACE.svc.`: `cluster.local`. */
  readonly domain: string;
}

const CANONICAL_LABELS = ["service.istio.io/canonical-name", "app.kubernetes.io/name", "app"];

export class AddressIndex implements AddressLookup {
  readonly version = 0;
  /** Null: a node's. */
  private readonly byAddress = new Map<string, Identity | null>();
  private readonly byHostPort = new Map<string, Identity>();
  private readonly byNodePort = new Map<number, Identity>();
  private readonly byPod = new Map<string, Identity>();
  private readonly byHost = new Map<string, Identity>();
  private hasWildcards = false;
  private readonly blocks: BlockIndex;

  constructor(objects: Objects, rules: NameRules) {
    const naming = new Naming(objects, rules);
    const entries = sorted(objects.ServiceEntry);
    this.addHosts(objects, entries, naming);
    this.blocks = new BlockIndex(this.addServiceEntries(entries, naming));
    this.addNodes(objects);
    this.addPods(objects, naming);
    for (const entry of sorted(objects.WorkloadEntry)) this.add(entry.address, () => naming.workloadEntry(entry));
    this.addServices(objects, naming);
  }

  find(address: string, port: number): Identity | null {
    const key = addressKey(address);
    if (key === null) return null;
    const known = this.byAddress.get(key);
    if (known !== undefined) return known ?? this.onNode(key, port);
    return this.blocks.find(address);
  }

  isShared(address: string): boolean {
    const key = addressKey(address);
    return key !== null && this.byAddress.get(key) === null;
  }

  findPod(namespace: string, name: string): Identity | null {
    return this.byPod.get(podKey(namespace, name)) ?? null;
  }

  findHost(host: string): Identity | null {
    const known = this.byHost.get(host);
    if (known !== undefined) return known;
    if (!this.hasWildcards) return null;
    for (let dot = host.indexOf("."); dot >= 0; dot = host.indexOf(".", dot + 1)) {
      const around = this.byHost.get(`*${host.substring(dot)}`);
      if (around !== undefined) return around;
    }
    return null;
  }

  private onNode(key: string, port: number): Identity | null {
    return this.byHostPort.get(hostPortKey(key, port)) ?? this.byNodePort.get(port) ?? null;
  }

  /** A Service's host is its own, whatever a ServiceEntry says. */
  private addHosts(objects: Objects, entries: readonly ServiceEntry[], naming: Naming): void {
    const add = (host: string, identity: Identity) => {
      if (!this.byHost.has(host)) this.byHost.set(host, identity);
      this.hasWildcards ||= host.startsWith("*.");
    };
    for (const service of sorted(objects.Service)) {
      const identity = naming.ofService(service, "");
      if (identity.called !== null) add(identity.called.host, identity);
    }
    for (const entry of entries) for (const host of entry.hosts) add(host, naming.serviceEntry(entry, ""));
  }

  /** Whoever comes first, keeps an address. */
  private add(address: string, identify: () => Identity): void {
    const key = addressKey(address);
    if (key !== null && !this.byAddress.has(key)) this.byAddress.set(key, identify());
  }

  /** Gives the blocks of more than one address. */
  private addServiceEntries(entries: readonly ServiceEntry[], naming: Naming): OwnedBlock[] {
    const blocks: OwnedBlock[] = [];
    for (const entry of entries) {
      for (const address of [...entry.addresses, ...entry.endpoints]) {
        const block = parseBlock(address);
        if (block === null) this.add(address, () => naming.serviceEntry(entry, address));
        else if (block.first === block.last) this.addNumber(block.first, entry, naming);
        else blocks.push({ ...block, identify: (found) => naming.serviceEntry(entry, found) });
      }
    }
    return blocks;
  }

  private addNumber(number: bigint, entry: ServiceEntry, naming: Naming): void {
    const key = keyOfNumber(number);
    if (!this.byAddress.has(key)) this.byAddress.set(key, naming.serviceEntry(entry, key));
  }

  /** Known by themselves, and by the pods that say on which they run. */
  private addNodes(objects: Objects): void {
    for (const node of objects.Node.values()) for (const address of node.addresses) this.addNode(address);
    for (const pod of objects.Pod.values()) {
      for (const address of pod.hostAddresses) this.addNode(address);
      if (pod.isHostNetwork) for (const address of pod.addresses) this.addNode(address);
    }
  }

  private addNode(address: string): void {
    const key = addressKey(address);
    if (key !== null && !this.byAddress.has(key)) this.byAddress.set(key, null);
  }

  /** A pod that has ended owns its address no more; of several that have it, it is the newest one's that runs. */
  private addPods(objects: Objects, naming: Naming): void {
    const pods = [...objects.Pod.values()].filter(({ phase }) => phase !== "Succeeded" && phase !== "Failed");
    for (const pod of pods.sort(byPrecedence)) {
      const identity = naming.pod(pod);
      this.byPod.set(podKey(pod.namespace, pod.name), identity);
      if (!pod.isHostNetwork) for (const address of pod.addresses) this.add(address, () => identity);
      this.addHostPorts(pod, identity);
    }
  }

  private addHostPorts({ hostPorts, hostAddresses, addresses, isHostNetwork }: Pod, identity: Identity): void {
    for (const address of isHostNetwork ? [...hostAddresses, ...addresses] : hostAddresses) {
      const host = addressKey(address);
      for (const port of hostPorts) {
        if (host === null || port === 0) continue;
        const key = hostPortKey(host, port);
        if (!this.byHostPort.has(key)) this.byHostPort.set(key, identity);
      }
    }
  }

  private addServices(objects: Objects, naming: Naming): void {
    for (const service of sorted(objects.Service)) {
      for (const address of service.addresses) this.add(address, () => naming.ofService(service, address));
      for (const port of service.nodePorts) this.byNodePort.set(port, naming.ofService(service, "")); // one service has it
    }
    for (const endpoints of [...sorted(objects.EndpointSlice), ...sorted(objects.Endpoints)]) {
      const service = objects.Service.get(`${endpoints.namespace}/${endpoints.service}`);
      if (service === undefined) continue;
      for (const address of endpoints.addresses) this.add(address, () => naming.ofService(service, address));
    }
  }
}

function podKey(namespace: string, name: string): string {
  return `${namespace}/${name}`;
}

function hostPortKey(key: string, port: number): string {
  return `${key} ${port}`;
}

/** Running ones first, then the newest. */
function byPrecedence(a: Pod, b: Pod): number {
  const running = Number(b.phase === "Running") - Number(a.phase === "Running");
  return running || compare(b.startTime, a.startTime) || compare(a.namespace, b.namespace) || compare(a.name, b.name);
}

function compare(a: string, b: string): number {
  return a < b ? -1 : Number(a > b);
}

/** By namespace and name, so that files in any order give the same answers. */
function sorted<Named extends ObjectName>(objects: ReadonlyMap<string, Named>): Named[] {
  return [...objects.values()].sort((a, b) => compare(a.namespace, b.namespace) || compare(a.name, b.name));
}

// === who an object is ===

class Naming {
  private readonly serviceOf: ReadonlyMap<string, Service>;
  /** Those that select their endpoints, by namespace. */
  private readonly selectors = new Map<string, ServiceEntry[]>();

  constructor(
    objects: Objects,
    private readonly rules: NameRules,
  ) {
    this.serviceOf = servicesByEndpoint(objects);
    for (const entry of sorted(objects.ServiceEntry)) {
      if (entry.selector === null) continue;
      const others = this.selectors.get(entry.namespace);
      if (others === undefined) this.selectors.set(entry.namespace, [entry]);
      else others.push(entry);
    }
  }

  pod(pod: Pod): Identity {
    const service = pod.addresses
      .map((address) => this.serviceOf.get(endpointKey(pod.namespace, address)))
      .find(Boolean);
    const selecting = service === undefined ? this.selecting(pod) : null;
    return this.identity("pod", pod, pod.workload, canonicalName(pod, pod.workload), service ?? null, selecting, "");
  }

  workloadEntry(entry: WorkloadEntry): Identity {
    const service = this.serviceOf.get(endpointKey(entry.namespace, entry.address)) ?? null;
    const selecting = service === null ? this.selecting(entry) : null;
    const canonical = canonicalName(entry, entry.name);
    return this.identity("workload_entry", entry, entry.name, canonical, service, selecting, entry.address);
  }

  serviceEntry(entry: ServiceEntry, address: string): Identity {
    return this.identity("service_entry", entry, "", entry.name, null, entry, address);
  }

  ofService(service: Service, address: string): Identity {
    return this.identity("service", service, "", service.name, service, null, address);
  }

  /** `address` names the instance of whatever is no pod. */
  private identity(
    kind: Identity["kind"],
    object: ObjectName,
    workload: string,
    canonicalService: string,
    service: Service | null,
    serviceEntry: ServiceEntry | null,
    address: string,
  ): Identity {
    const subject = { end: object, workload, canonicalService, service, serviceEntry };
    return {
      kind,
      service: this.rules.service.render(subject),
      instance: kind === "pod" ? this.rules.instance.render(subject) : address,
      namespace: object.namespace,
      workload,
      pod: kind === "pod" ? object.name : "",
      canonicalService,
      labels: object.labels,
      called: service === null ? calledEntry(serviceEntry) : this.called(service),
    };
  }

  private called({ name, namespace }: Service): CalledService {
    return { host: `${name}.${namespace}.svc.${this.rules.domain}`, name, namespace };
  }

  private selecting({ namespace, labels }: ObjectName): ServiceEntry | null {
    const entries = this.selectors.get(namespace) ?? [];
    return entries.find(({ selector }) => selector !== null && isSelected(labels, selector)) ?? null;
  }
}

/** Istio calls the service of a ServiceEntry by its host throughout. */
function calledEntry(entry: ServiceEntry | null): CalledService | null {
  const [host] = entry?.hosts ?? [];
  return entry === null || host === undefined ? null : { host, name: host, namespace: entry.namespace };
}

function isSelected(labels: ReadonlyMap<string, string>, selector: ReadonlyMap<string, string>): boolean {
  return [...selector].every(([key, value]) => labels.get(key) === value);
}

/** As Istio's injection decides it. */
function canonicalName({ labels }: ObjectName, workload: string): string {
  for (const label of CANONICAL_LABELS) {
    const value = labels.get(label);
    if (value) return value;
  }
  return workload;
}

/**
 * Services by the addresses of their endpoints. Of several, one that has an address of its own comes before headless ones, then the
 * first by name; slices come before Endpoints, which hold a thousand addresses at most.
 */
function servicesByEndpoint(objects: Objects): Map<string, Service> {
  const services = new Map<string, Service>();
  for (const endpoints of [...objects.EndpointSlice.values(), ...objects.Endpoints.values()]) {
    const service = objects.Service.get(`${endpoints.namespace}/${endpoints.service}`);
    if (service === undefined) continue;
    for (const address of endpoints.addresses) {
      const key = endpointKey(endpoints.namespace, address);
      const known = services.get(key);
      if (known === undefined || isBefore(service, known)) services.set(key, service);
    }
  }
  return services;
}

function endpointKey(namespace: string, address: string): string {
  return `${namespace} ${address}`;
}

function isBefore(a: Service, b: Service): boolean {
  const headless = Number(a.addresses.length === 0) - Number(b.addresses.length === 0);
  return (headless || compare(a.name, b.name)) < 0;
}

// === CIDR blocks ===

interface OwnedBlock extends Block {
  /** Who is behind an address of it. */
  readonly identify: (address: string) => Identity;
}

/** Blocks are nested or apart, never half across: cut into pieces that each belong to the smallest block around them. */
class BlockIndex {
  private readonly starts: bigint[] = [];
  /** Who owns from `starts[i]` up to `starts[i + 1]`; null between blocks. */
  private readonly owners: (OwnedBlock | null)[] = [];

  constructor(blocks: readonly OwnedBlock[]) {
    const outerFirst = [...blocks].sort((a, b) => order(a.first, b.first) || order(b.last, a.last));
    const open: OwnedBlock[] = [];
    for (const block of outerFirst) {
      this.closeBefore(block.first, open);
      const around = open.at(-1);
      if (around?.first === block.first && around.last === block.last) continue; // the same block: the first one keeps it
      this.cut(block.first, block);
      open.push(block);
    }
    this.closeBefore(null, open);
  }

  /** O(log n). */
  find(address: string): Identity | null {
    if (this.starts.length === 0) return null;
    const number = parseAddress(address);
    if (number === null) return null;
    let low = 0;
    let high = this.starts.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.starts[middle] as bigint) <= number) low = middle + 1;
      else high = middle;
    }
    return this.owners[low - 1]?.identify(address) ?? null;
  }

  /** Ends the blocks that lie wholly before `first`; all of them for null. */
  private closeBefore(first: bigint | null, open: OwnedBlock[]): void {
    for (let top = open.at(-1); top !== undefined && (first === null || top.last < first); top = open.at(-1)) {
      open.pop();
      this.cut(top.last + 1n, open.at(-1) ?? null);
    }
  }

  private cut(start: bigint, owner: OwnedBlock | null): void {
    if (this.starts.at(-1) === start) {
      this.owners[this.owners.length - 1] = owner; // two ends at one place, or an inner block at its outer one's begin
      return;
    }
    this.starts.push(start);
    this.owners.push(owner);
  }
}

function order(a: bigint, b: bigint): number {
  return a < b ? -1 : Number(a > b);
}
