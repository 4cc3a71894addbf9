// The collector itself: what it receives, what it cannot use, what it holds and what it takes.

import type { Dashboard, Panel, Query } from "./dashboard.ts";
import { rate } from "./promql.ts";

const INSTANCE = 'instance=~"$instance"';

function panelOf(title: string, description: string, unit: string, ...queries: readonly Query[]): Panel {
  return { title, description, kind: "timeseries", unit, width: 8, queries };
}

const gauge = (metric: string, by: string) => `sum by (${by}) (${metric}{${INSTANCE}})`;
const completeness = (of: string, by: string) =>
  `min by (${by},channel) (mesh_completeness_ratio{${INSTANCE},of="${of}"})`;

export const COLLECTOR: Dashboard = {
  name: "collector",
  title: "Meshtally: collector",
  description: "Whether the numbers can be relied on, and what counting them costs.",
  variables: [{ name: "instance", label: "Collector", query: "label_values(meshtally_build_info, instance)" }],
  rows: [
    {
      title: "Completeness",
      panels: [
        {
          title: "Proxies",
          description:
            "Share of a proxy's requests that each channel told of. Access logs below 1: lost or sampled entries. Stats below 1: restarts. Both: counted twice.",
          kind: "timeseries",
          unit: "percentunit",
          width: 12,
          queries: [{ expr: completeness("proxy", "proxy"), legend: "{{proxy}} {{channel}}" }],
        },
        {
          title: "Edges",
          description: "The same of each edge of the service graph.",
          kind: "timeseries",
          unit: "percentunit",
          width: 12,
          queries: [
            { expr: completeness("edge", "source,destination"), legend: "{{source}} to {{destination}} {{channel}}" },
          ],
        },
      ],
    },
    {
      title: "Received",
      panels: [
        panelOf("Access-log entries", "Counted a second, by where their labels came from.", "short", {
          expr: rate("meshtally_access_log_entries_total", INSTANCE, "instance,labels"),
          legend: "{{instance}} {{labels}}",
        }),
        panelOf("Entries dropped", "A second, by reason. `not_final` and `no_request` are as it should be.", "short", {
          expr: rate("meshtally_access_log_dropped_total", INSTANCE, "instance,reason"),
          legend: "{{instance}} {{reason}}",
        }),
        panelOf("Scrapes", "A second, by how they ended.", "short", {
          expr: rate("meshtally_scrapes_total", INSTANCE, "instance,result"),
          legend: "{{instance}} {{result}}",
        }),
        panelOf("Streams", "Access-log streams open.", "short", {
          expr: gauge("meshtally_access_log_streams", "instance"),
          legend: "{{instance}}",
        }),
        panelOf("Streams ended", "A second, by how.", "short", {
          expr: rate("meshtally_access_log_streams_ended_total", INSTANCE, "instance,how"),
          legend: "{{instance}} {{how}}",
        }),
        panelOf("Age of readings", "How long ago each target was last read; the ten oldest.", "s", {
          expr: `topk(10, time() - max by (instance,proxy) (meshtally_target_last_scrape_timestamp_seconds{${INSTANCE}}))`,
          legend: "{{proxy}}",
        }),
        panelOf(
          "Dropped by the proxies",
          "Entries a second that found no room in a proxy's buffer; the ten most.",
          "short",
          {
            expr: `topk(10, ${rate("meshtally_target_access_log_entries_total", `how="dropped",${INSTANCE}`, "instance,proxy")})`,
            legend: "{{proxy}}",
          },
        ),
        panelOf(
          "Backpressure",
          "Share of the time in which no stream was read, since there was no room.",
          "percentunit",
          {
            expr: rate("meshtally_backpressure_seconds_total", INSTANCE, "instance"),
            legend: "{{instance}}",
          },
        ),
      ],
    },
    {
      title: "Held",
      panels: [
        panelOf("Label sets", "Of HTTP and TCP metrics: limits.label_sets.", "short", {
          expr: gauge("meshtally_label_sets", "instance,metrics"),
          legend: "{{instance}} {{metrics}}",
        }),
        panelOf("Label sets of process lives", "limits.cells.", "short", {
          expr: gauge("meshtally_cells", "instance,metrics"),
          legend: "{{instance}} {{metrics}}",
        }),
        panelOf("Counted as `other`", "Requests and connections a second that found no room.", "short", {
          expr: rate("meshtally_label_sets_overflowed_total", INSTANCE, "instance,metrics"),
          legend: "{{instance}} {{metrics}}",
        }),
        panelOf(
          "Left out of mesh_*",
          "Requests and connections a second that are in istio_* alone, since nobody can know who else reports them.",
          "short",
          {
            expr: rate("meshtally_unified_left_out_total", INSTANCE, "instance,metrics,reason"),
            legend: "{{instance}} {{metrics}} {{reason}}",
          },
        ),
        panelOf(
          "Process lives, connections, edges",
          "limits.proxies, limits.connections, limits.edges.",
          "short",
          { expr: gauge("meshtally_proxy_lives", "instance"), legend: "{{instance}} process lives" },
          { expr: gauge("meshtally_connections", "instance"), legend: "{{instance}} connections" },
          { expr: gauge("meshtally_graph_edges", "instance"), legend: "{{instance}} edges" },
        ),
        panelOf("Services, instances, endpoints", "limits.indicators, of each kind.", "short", {
          expr: gauge("meshtally_indicator_subjects", "instance,kind"),
          legend: "{{instance}} {{kind}}",
        }),
        panelOf("Log store", "Size of the kept access logs; 0 where none are kept.", "bytes", {
          expr: gauge("meshtally_log_store_bytes", "instance"),
          legend: "{{instance}}",
        }),
      ],
    },
    {
      title: "Cost",
      panels: [
        panelOf("Processor", "Cores in use.", "short", {
          expr: rate("process_cpu_seconds_total", `job="meshtally",${INSTANCE}`, "instance"),
          legend: "{{instance}}",
        }),
        panelOf(
          "Memory",
          "Resident, and of it the heap of the main thread.",
          "bytes",
          { expr: gauge("process_resident_memory_bytes", "instance"), legend: "{{instance}} resident" },
          { expr: gauge("nodejs_heap_size_used_bytes", "instance"), legend: "{{instance}} heap" },
        ),
        panelOf("Event loop", "How late the main thread was, 99 times of 100 at most.", "s", {
          expr: `max by (instance) (nodejs_eventloop_lag_p99_seconds{${INSTANCE}})`,
          legend: "{{instance}}",
        }),
        panelOf("Scrape by Prometheus", "How long /metrics took.", "s", {
          expr: `max by (instance) (scrape_duration_seconds{job="meshtally",${INSTANCE}})`,
          legend: "{{instance}}",
        }),
        panelOf("Series", "That Prometheus has of it.", "short", {
          expr: `max by (instance) (scrape_samples_scraped{job="meshtally",${INSTANCE}})`,
          legend: "{{instance}}",
        }),
      ],
    },
  ],
};
