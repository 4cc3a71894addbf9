// What is reported of a stream, and when: at its end, everything.

import { Config } from "./config/config.ts";
import { ownNode } from "./node.ts";
import { Request } from "./request.ts";
import { Role } from "./role.ts";
import { countRequest } from "./stat.ts";
import { Stream } from "./stream.ts";

const request = new Request();

/** Counts the stream, which is over. */
export function onLog(stream: Stream, config: Config): void {
  const isInbound = stream.role(config) === Role.Inbound;
  const peer = isInbound ? stream.downstreamPeer : stream.upstreamPeer;
  request.read(isInbound, peer, !config.disableHostHeaderFallback);
  countRequest(request, ownNode(), config.maxLabelSets);
}
