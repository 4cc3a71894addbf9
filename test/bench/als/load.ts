// The load generator, a process of its own: told by messages of its parent what to send where, it sends until it is told to stop.

import { AlsClient } from "./client.ts";
import type { Kind } from "./entry.ts";
import { ENTRIES_PER_MESSAGE, StreamLoad } from "./messages.ts";

export type LoadCommand =
  | {
      readonly do: "start";
      readonly url: string;
      readonly kind: Kind;
      readonly streams: number;
      readonly labelSets: number;
    }
  | { readonly do: "stop" };

/** The answer to a command: entries that the server has read all of. */
export type LoadAnswer = { readonly entries: number } | { readonly error: string };

/** Of all streams together: at 10,000 label sets, each comes four times in a round. */
const MESSAGES = 2048;

const loads = new Map<string, StreamLoad[]>();
let clients: readonly AlsClient[] = [];

/** Encoded once: it takes some seconds. */
function loadsOf(kind: Kind, streams: number, labelSets: number): StreamLoad[] {
  const key = `${kind} ${streams}`;
  const known = loads.get(key) ?? StreamLoad.encode(kind, streams, { messages: MESSAGES, labelSets });
  loads.set(key, known);
  return known;
}

async function carryOut(command: LoadCommand): Promise<number> {
  if (command.do === "start") {
    clients = loadsOf(command.kind, command.streams, command.labelSets).map((load) => new AlsClient(command.url, load));
    return 0;
  }
  await Promise.all(clients.map((client) => client.end()));
  return clients.reduce((sum, { sent }) => sum + sent * ENTRIES_PER_MESSAGE, 0);
}

function answer(answer: LoadAnswer): void {
  process.send?.(answer);
}

process.on("disconnect", () => process.exit(0));
process.on("message", (command: LoadCommand) => {
  carryOut(command).then(
    (entries) => answer({ entries }),
    (error: unknown) => answer({ error: error instanceof Error ? error.message : String(error) }),
  );
});
