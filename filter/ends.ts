// Ends: what is known of the two ends of a call, while it lasts.

import { Cluster } from "./cluster.ts";
import { Config } from "./config/config.ts";
import { Peer } from "./peer.ts";
import { Role, resolveRole } from "./role.ts";

const ROLE_UNKNOWN = -1;

export class Ends {
  /** What the two sides of this proxy said of themselves. */
  downstreamPeer: Peer | null = null;
  upstreamPeer: Peer | null = null;
  /** The cluster that the request was to go to when its headers came; null where nobody asked. */
  cluster: Cluster | null = null;
  /** The authority of a gRPC request, where it may be needed before the end: only the first callback can read it. */
  authority: StaticArray<u8> | null = null;
  private knownRole: i32 = ROLE_UNKNOWN;

  /** Which end this proxy is. Call in one of the stream's own callbacks. */
  role(config: Config): Role {
    if (this.knownRole === ROLE_UNKNOWN) this.knownRole = resolveRole(config);
    return this.knownRole;
  }

  protected forgetEnds(): void {
    this.downstreamPeer = null;
    this.upstreamPeer = null;
    this.cluster = null;
    this.authority = null;
    this.knownRole = ROLE_UNKNOWN;
  }
}
