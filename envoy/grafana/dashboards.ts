// All dashboards: envoy/grafana/NAME.json each.

import { COLLECTOR } from "./collector.ts";
import type { Dashboard } from "./dashboard.ts";
import { MESH } from "./mesh.ts";
import { SERVICE_DASHBOARD } from "./service.ts";
import { WORKLOAD } from "./workload.ts";

export const DASHBOARDS: readonly Dashboard[] = [MESH, SERVICE_DASHBOARD, WORKLOAD, COLLECTOR];
