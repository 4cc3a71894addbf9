// Kubernetes objects, as the API and `kubectl get -o yaml` write them -> the few fields that say who is behind an address.
// https://kubernetes.io/docs/reference/kubernetes-api/ and https://istio.io/latest/docs/reference/config/networking/service-entry/

import { CollectorError, quote } from "../error.ts";
import type { ObjectName } from "./names.ts";

export interface Pod extends ObjectName {
  /** All of them, of both families. */
  readonly addresses: readonly string[];
  /** The node's own, where `ports` of it are the pod's. */
  readonly hostAddresses: readonly string[];
  readonly isHostNetwork: boolean;
  /** Ports of `hostAddresses` that lead to the pod. */
  readonly hostPorts: readonly number[];
  /** `Pending`, `Running`, `Succeeded`, `Failed`, `Unknown`. */
  readonly phase: string;
  /** When it started, else when it was made; RFC 3339 in UTC, so that texts sort as times do. */
  readonly startTime: string;
  /** The deployment, stateful set and so on that runs it; the pod itself if none does. */
  readonly workload: string;
  /** Where the stats of a proxy in it are; null where there is none, or its stats are not to be read. */
  readonly proxyStats: ProxyStats | null;
}

export interface ProxyStats {
  /** As the annotations have it, unchecked; "15090" of Istio's proxies. */
  readonly port: string;
  readonly path: string;
  readonly scheme: string;
  readonly hasFilter: boolean;
}

export interface Service extends ObjectName {
  /** Cluster IPs, external IPs and those of load balancers; none of a headless service. */
  readonly addresses: readonly string[];
  /** Ports of every node that lead to it. */
  readonly nodePorts: readonly number[];
}

/** An EndpointSlice or Endpoints: addresses of a service. */
interface ServiceEndpoints extends ObjectName {
  /** Of the service; "" of a slice that belongs to none. */
  readonly service: string;
  readonly addresses: readonly string[];
}

interface Node extends ObjectName {
  readonly addresses: readonly string[];
}

export interface ServiceEntry extends ObjectName {
  readonly hosts: readonly string[];
  /** Addresses and CIDR blocks of the service, whatever its resolution. */
  readonly addresses: readonly string[];
  readonly endpoints: readonly string[];
  /** Labels of the workload entries and pods that are its endpoints; null for none. */
  readonly selector: ReadonlyMap<string, string> | null;
}

export interface WorkloadEntry extends ObjectName {
  readonly address: string;
}

/** The objects of each kind by `namespace/name`: of one that is given twice the last one counts. */
export interface Objects {
  readonly Pod: Map<string, Pod>;
  readonly Service: Map<string, Service>;
  readonly EndpointSlice: Map<string, ServiceEndpoints>;
  readonly Endpoints: Map<string, ServiceEndpoints>;
  readonly Node: Map<string, Node>;
  readonly ServiceEntry: Map<string, ServiceEntry>;
  readonly WorkloadEntry: Map<string, WorkloadEntry>;
}

type Kind = keyof Objects;

export function noObjects(): Objects {
  return {
    Pod: new Map(),
    Service: new Map(),
    EndpointSlice: new Map(),
    Endpoints: new Map(),
    Node: new Map(),
    ServiceEntry: new Map(),
    WorkloadEntry: new Map(),
  };
}

/** API groups, in any version: a `Service` of Knative's is none. */
const GROUPS: { readonly [kind in Kind]: string } = {
  Pod: "",
  Service: "",
  EndpointSlice: "discovery.k8s.io",
  Endpoints: "",
  Node: "",
  ServiceEntry: "networking.istio.io",
  WorkloadEntry: "networking.istio.io",
};

/**
 * Adds one object; false for one of another kind. Throws CollectorError `message_malformed` that names object, field and what was
 * expected: `Pod default/a: status.podIPs: found 5, expected a list`.
 */
export function addObject(objects: Objects, value: unknown): boolean {
  const fields = Fields.of(value);
  const kind = fields.text("kind");
  if (kind === "") throw malformed("an object: kind", undefined, "a text such as Pod");
  if (!isKind(kind) || groupOf(fields.text("apiVersion")) !== GROUPS[kind]) return false;
  const { name, namespace, labels } = nameOf(fields);
  if (name === "") throw malformed(`${kind}: metadata.name`, "", "a name");
  const key = `${namespace}/${name}`;
  try {
    ADD[kind](objects, key, { name, namespace, labels }, fields);
  } catch (error: unknown) {
    const { message } = CollectorError.from(error);
    throw new CollectorError("message_malformed", `${kind} ${key}: ${message}`, { cause: error });
  }
  return true;
}

type Add = (objects: Objects, key: string, name: ObjectName, fields: Fields) => void;

const ADD: { readonly [kind in Kind]: Add } = {
  Pod: (objects, key, name, fields) => objects.Pod.set(key, readPod(name, fields)),
  Service: (objects, key, name, fields) => objects.Service.set(key, readService(name, fields)),
  EndpointSlice: (objects, key, name, fields) => objects.EndpointSlice.set(key, readSlice(name, fields)),
  Endpoints: (objects, key, name, fields) => objects.Endpoints.set(key, readEndpoints(name, fields)),
  Node: (objects, key, name, fields) => objects.Node.set(key, { ...name, addresses: nodeAddresses(fields) }),
  ServiceEntry: (objects, key, name, fields) => objects.ServiceEntry.set(key, readServiceEntry(name, fields)),
  WorkloadEntry: (objects, key, name, fields) =>
    objects.WorkloadEntry.set(key, { ...name, ...readWorkloadEntry(name, fields) }),
};

function isKind(kind: string): kind is Kind {
  return Object.hasOwn(ADD, kind);
}

function groupOf(apiVersion: string): string {
  const slash = apiVersion.indexOf("/");
  return slash < 0 ? "" : apiVersion.substring(0, slash);
}

function nameOf(fields: Fields): ObjectName {
  const metadata = fields.section("metadata");
  return {
    name: metadata.text("name"),
    namespace: metadata.text("namespace"),
    labels: metadata.section("labels").texts(),
  };
}

function readPod(name: ObjectName, fields: Fields): Pod {
  const spec = fields.section("spec");
  const status = fields.section("status");
  const isHostNetwork = spec.flag("hostNetwork");
  const ports = spec.sections("containers").flatMap((container) => container.sections("ports"));
  return {
    ...name,
    addresses: both(status.text("podIP"), addressesIn(status.sections("podIPs"), "ip")),
    hostAddresses: both(status.text("hostIP"), addressesIn(status.sections("hostIPs"), "ip")),
    isHostNetwork,
    hostPorts: ports.map((port) => port.number("hostPort") || (isHostNetwork ? port.number("containerPort") : 0)),
    phase: status.text("phase"),
    startTime: status.text("startTime") || fields.section("metadata").text("creationTimestamp"),
    workload: workloadOf(name, fields.section("metadata")),
    proxyStats: readProxyStats(spec, fields.section("metadata").section("annotations")),
  };
}

const ISTIO_PROXY = "istio-proxy";
/** Where Istio's proxies show their stats, and nothing else. */
const ISTIO_STATS_PORT = "15090";
const STATS_PATH = "/stats/prometheus";

/** Of Istio's proxies, as containers or as native sidecars, and of pods that say by annotations that they have a proxy, and where. */
function readProxyStats(spec: Fields, annotations: Fields): ProxyStats | null {
  const told = annotations.text("meshtally.io/scrape");
  const containers = [...spec.sections("containers"), ...spec.sections("initContainers")];
  const isIstio = containers.some((container) => container.text("name") === ISTIO_PROXY);
  if (told === "false" || (!isIstio && told !== "true")) return null;
  const hasFilter = annotations.text("meshtally.io/filter") !== "false";
  if (isIstio) return { port: ISTIO_STATS_PORT, path: STATS_PATH, scheme: "http", hasFilter };
  return {
    port: annotations.text("prometheus.io/port"),
    path: annotations.text("prometheus.io/path") || STATS_PATH,
    scheme: annotations.text("prometheus.io/scheme") || "http",
    hasFilter,
  };
}

const CRON_JOB = /^(.+)-\d{8,10}$/;

/**
 * As Istio names workloads: a replica set of a deployment by the deployment, a job of a cron job by the cron job.
 * https://github.com/istio/istio/blob/master/pkg/kube/util.go
 */
function workloadOf({ name, labels }: ObjectName, metadata: Fields): string {
  const owner = metadata.sections("ownerReferences").find((reference) => reference.flag("controller"));
  const ownerName = owner?.text("name") ?? "";
  if (owner === undefined || ownerName === "") return name;
  const hash = `-${labels.get("pod-template-hash") ?? ""}`;
  if (owner.text("kind") === "ReplicaSet" && hash !== "-" && ownerName.endsWith(hash)) {
    return ownerName.substring(0, ownerName.length - hash.length);
  }
  if (owner.text("kind") === "ReplicationController") return labels.get("deploymentconfig") || ownerName;
  if (owner.text("kind") === "Job") return CRON_JOB.exec(ownerName)?.[1] ?? ownerName;
  return ownerName;
}

function readService(name: ObjectName, fields: Fields): Service {
  const ports = fields.section("spec").sections("ports");
  const nodePorts = ports.map((port) => port.number("nodePort")).filter((port) => port !== 0);
  return { ...name, addresses: serviceAddresses(fields), nodePorts };
}

function serviceAddresses(fields: Fields): string[] {
  const spec = fields.section("spec");
  const ingress = fields.section("status").section("loadBalancer").sections("ingress");
  const clusterAddresses = both(spec.text("clusterIP"), spec.list("clusterIPs"));
  return [...clusterAddresses, ...spec.list("externalIPs"), ...addressesIn(ingress, "ip")].filter(
    (address) => address !== "None" && address !== "",
  );
}

function readSlice(name: ObjectName, fields: Fields): ServiceEndpoints {
  const addresses = fields.sections("endpoints").flatMap((endpoint) => endpoint.list("addresses"));
  return { ...name, service: name.labels.get("kubernetes.io/service-name") ?? "", addresses };
}

/** Those that are not ready, too: who they are does not depend on it. */
function readEndpoints(name: ObjectName, fields: Fields): ServiceEndpoints {
  const addresses = fields
    .sections("subsets")
    .flatMap((subset) => [...subset.sections("addresses"), ...subset.sections("notReadyAddresses")]);
  return { ...name, service: name.name, addresses: addressesIn(addresses, "ip") };
}

function nodeAddresses(fields: Fields): string[] {
  return addressesIn(fields.section("status").sections("addresses"), "address");
}

function readServiceEntry(name: ObjectName, fields: Fields): ServiceEntry {
  const spec = fields.section("spec");
  const selector = spec.section("workloadSelector").section("labels").texts();
  return {
    ...name,
    hosts: spec.list("hosts"),
    addresses: spec.list("addresses"),
    endpoints: addressesIn(spec.sections("endpoints"), "address"),
    selector: selector.size === 0 ? null : selector,
  };
}

/** Its labels are those of `spec`, over those of `metadata`. */
function readWorkloadEntry({ labels }: ObjectName, fields: Fields): { address: string; labels: ObjectName["labels"] } {
  const spec = fields.section("spec");
  return { address: spec.text("address"), labels: new Map([...labels, ...spec.section("labels").texts()]) };
}

function addressesIn(sections: readonly Fields[], key: string): string[] {
  return sections.map((section) => section.text(key)).filter((text) => text !== "");
}

/** A first one that the list mostly repeats, and the list. */
function both(first: string, list: readonly string[]): string[] {
  return first === "" || list.includes(first) ? [...list] : [first, ...list];
}

/** A mapping of an object; what is absent or null reads as empty. */
class Fields {
  private constructor(
    private readonly fields: { readonly [key: string]: unknown },
    private readonly path: string,
  ) {}

  static of(value: unknown, path = ""): Fields {
    if (typeof value !== "object" || value === null || Array.isArray(value)) {
      throw malformed(path === "" ? "an object" : path, value, "a mapping");
    }
    return new Fields(value as { readonly [key: string]: unknown }, path);
  }

  section(key: string): Fields {
    return Fields.of(this.fields[key] ?? {}, this.pathOf(key));
  }

  sections(key: string): Fields[] {
    return this.array(key).map((value, i) => Fields.of(value, `${this.pathOf(key)}.${i}`));
  }

  list(key: string): string[] {
    return this.array(key).map((value, i) => textOf(value, `${this.pathOf(key)}.${i}`));
  }

  text(key: string): string {
    return textOf(this.fields[key] ?? "", this.pathOf(key));
  }

  texts(): Map<string, string> {
    return new Map(Object.keys(this.fields).map((key) => [key, this.text(key)]));
  }

  flag(key: string): boolean {
    const value = this.fields[key] ?? false;
    if (typeof value !== "boolean") throw malformed(this.pathOf(key), value, "true or false");
    return value;
  }

  number(key: string): number {
    const value = this.fields[key] ?? 0;
    if (typeof value !== "number") throw malformed(this.pathOf(key), value, "a number");
    return value;
  }

  private array(key: string): readonly unknown[] {
    const value = this.fields[key] ?? [];
    if (!Array.isArray(value)) throw malformed(this.pathOf(key), value, "a list");
    return value;
  }

  private pathOf(key: string): string {
    return this.path === "" ? key : `${this.path}.${key}`;
  }
}

function textOf(value: unknown, path: string): string {
  if (typeof value !== "string") throw malformed(path, value, "a text");
  return value;
}

function malformed(path: string, value: unknown, expected: string): CollectorError {
  return new CollectorError("message_malformed", `${path}: found ${quote(value)}, expected ${expected}`);
}
