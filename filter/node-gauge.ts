// meshtally_filter_node: which node this process is, told in its own stats, so that who reads them there need not ask elsewhere.
// Istio's ports 15090 and 15020 show the stats, and no /server_info.
//
//   component.proxy.tag.736964656361727e3130…;.meshtally_filter_node
//
// The node id is hexadecimal, since Envoy makes `_` of most characters of a name. It stands where Istio's bootstrap looks for
// istio_build's `tag`, so that Prometheus has one metric for all proxies; without that expression, it is read from the name.

import { defineMetric, readProperty, record, utf8, valuePtr, valueSize } from "./host.ts";
import { MAX_NODE_ID_BYTES, MetricKind, NODE_METRIC } from "./vocabulary/metrics.ts";
import { BUILD_PREFIX, BUILD_SUFFIX } from "./vocabulary/stat-name.ts";
import { encodeHex } from "./wire/hex.ts";

const NODE_ID = utf8("xds\0node\0id");

/** Sets the gauge; none for a node without id, or with one that is too long. Again is harmless: it is the same one. */
export function reportNode(): void {
  if (!readProperty(NODE_ID) || valueSize === 0 || valueSize > <usize>MAX_NODE_ID_BYTES) return;
  const name = utf8(BUILD_PREFIX + encodeHex(valuePtr, valueSize) + BUILD_SUFFIX + NODE_METRIC);
  record(defineMetric(MetricKind.Gauge, changetype<usize>(name), name.byteLength), 1);
}
