// What an upstream cluster says of the service behind it, from its name and metadata. Read once per cluster and then again every
// REFRESH_MS, since the control plane may change the metadata under the same name.

import { noteColdWork } from "./garbage.ts";
import { countFault, nowMs, readProperty, utf8, valuePtr, valueSize } from "./host.ts";
import { Table } from "./table.ts";
import { Fault } from "./vocabulary/metrics.ts";
import { CATCH_ALL_CLUSTERS, PASSTHROUGH_CLUSTER } from "./vocabulary/values.ts";
import { readText } from "./wire/text.ts";

const REFRESH_MS: u64 = 5000;
const MAX_CLUSTERS = 2000;

const CLUSTER_NAME = utf8("xds\0cluster_name");
const ISTIO = "xds\0cluster_metadata\0filter_metadata\0istio\0";
const DISABLE_EXCHANGE = utf8(ISTIO + "disable_mx");
const EXTERNAL = utf8(ISTIO + "external");
const TCP_EXCHANGE = utf8("xds\0cluster_metadata\0filter_metadata\0meshtally\0tcp_metadata_exchange");
const SERVICE_HOST = utf8(ISTIO + "services\x000\0host");
const SERVICE_NAME = utf8(ISTIO + "services\x000\0name");
const SERVICE_NAMESPACE = utf8(ISTIO + "services\x000\0namespace");

export class Cluster {
  /** Changes whenever the facts below do: stands for them in keys. */
  serial: u32 = 0;
  readAtMs: u64 = 0;
  /** `BlackHoleCluster` and its like: the name stands for the service. */
  isCatchAll: bool = false;
  isExternal: bool = false;
  isExchangeDisabled: bool = false;
  /** Whether its servers are said to understand the metadata exchange of TCP. */
  isTcpExchanger: bool = false;
  /** Whether cluster metadata names a service; then the three below, "" where it does not say. */
  hasService: bool = false;
  serviceHost: string = "";
  serviceName: string = "";
  serviceNamespace: string = "";

  constructor(readonly name: string) {}
}

const clusters = new Table<Cluster>(MAX_CLUSTERS);
let nextSerial: u32 = 1;

/** The cluster chosen for the current stream; null when there is none (no route, direct response). */
export function currentCluster(): Cluster | null {
  if (!readProperty(CLUSTER_NAME) || valueSize === 0) return null;
  const now = nowMs();
  let cluster = clusters.find(valuePtr, valueSize);
  if (cluster === null) {
    noteColdWork();
    cluster = new Cluster(readText(valuePtr, valueSize));
    if (clusters.isFull) {
      countFault(Fault.ClustersFull);
      clusters.clear();
    }
    clusters.add(valuePtr, valueSize, cluster);
    readFacts(cluster);
    cluster.readAtMs = now;
  } else if (now - cluster.readAtMs >= REFRESH_MS) {
    refresh(cluster);
    cluster.readAtMs = now;
  }
  return cluster;
}

function refresh(cluster: Cluster): void {
  noteColdWork();
  const host = cluster.serviceHost;
  const name = cluster.serviceName;
  const namespace = cluster.serviceNamespace;
  const serial = cluster.serial;
  readFacts(cluster);
  const isSame = host === cluster.serviceHost && name === cluster.serviceName && namespace === cluster.serviceNamespace;
  if (isSame) cluster.serial = serial;
}

function readFacts(cluster: Cluster): void {
  cluster.serial = nextSerial++;
  cluster.isCatchAll = CATCH_ALL_CLUSTERS.includes(cluster.name);
  cluster.isExchangeDisabled = readFlag(DISABLE_EXCHANGE);
  cluster.isTcpExchanger = readFlag(TCP_EXCHANGE);
  cluster.isExternal = cluster.name === PASSTHROUGH_CLUSTER || readFlag(EXTERNAL);
  cluster.serviceHost = readValue(SERVICE_HOST);
  cluster.serviceName = readValue(SERVICE_NAME);
  cluster.serviceNamespace = readValue(SERVICE_NAMESPACE);
  cluster.hasService =
    cluster.serviceHost.length > 0 || cluster.serviceName.length > 0 || cluster.serviceNamespace.length > 0;
}

function readValue(path: ArrayBuffer): string {
  return readProperty(path) ? readText(valuePtr, valueSize) : "";
}

function readFlag(path: ArrayBuffer): bool {
  if (!readProperty(path)) return false;
  if (valueSize === 1) return load<u8>(valuePtr) !== 0;
  return readText(valuePtr, valueSize) === "true";
}
