// The entry of a thread with a shard.

import { parentPort, workerData } from "node:worker_threads";
import { CollectorError } from "../error.ts";
import type { Command, ThreadData } from "./messages.ts";
import { ThreadShard } from "./thread-shard.ts";

const port = parentPort;
if (port === null) throw new CollectorError("internal", "this is no thread: collector/main.ts is the entry");
const shard = new ThreadShard(workerData as ThreadData, (notice) => port.postMessage(notice));
port.on("message", (command: Command) => shard.handle(command));
