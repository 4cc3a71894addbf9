// Bookinfo's applications as small HTTP servers: productpage asks details and reviews, reviews v2 and v3 ask ratings.
// Each listens on its workload's own address and calls others through its own sidecar.

import { Agent, createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { setTimeout as sleep } from "node:timers/promises";
import { type Answer, httpCall } from "./http-call.ts";
import type { RatingsDb } from "./ratings-db.ts";
import { CALLER_HEADER } from "./sidecar-config.ts";
import type { Tally } from "./tally.ts";
import { addressOf, PORTS, SERVICE_PORT, type Workload } from "./topology.ts";

/** Header that makes an application fail on purpose: "ratings=503,details=500". Passed on to every call. */
export const FAULT_HEADER = "x-demo-fault";

/** Header that makes an application wait before it answers, for so many milliseconds: "reviews=900". Passed on to every call. */
export const DELAY_HEADER = "x-demo-delay";

/** Headers that an application passes on from the request that it answers. */
const PASSED_ON = [FAULT_HEADER, DELAY_HEADER, "x-request-id"];

/** Faults and delays of everyday life: every n-th request of each workload. */
interface Habits {
  readonly failEvery?: number;
  readonly failWith?: number;
  readonly slowEvery?: number;
  readonly slowMs?: number;
}

const HABITS: { readonly [app: string]: Habits } = {
  ratings: { failEvery: 20, failWith: 503 },
  details: { failEvery: 50, failWith: 500, slowEvery: 10, slowMs: 40 },
  reviews: { slowEvery: 8, slowMs: 70 },
};

export interface BookinfoOptions {
  readonly workload: Workload;
  readonly subnet: string;
  readonly tally: Tally;
  /** What ratings asks; without it, or without its answer, ratings gives those that it remembers. */
  readonly database?: RatingsDb;
  /** Fail and dawdle now and then by HABITS; FAULT_HEADER works either way. */
  readonly faults: boolean;
}

/** What an application has at hand while it answers. */
interface Request {
  readonly workload: Workload;
  /** Number of the book that is asked for. */
  readonly book: number;
  /** GETs "http://reviews:9080/reviews/0" through the own sidecar. */
  readonly call: (service: string, path: string) => Promise<Answer>;
  readonly database: RatingsDb | undefined;
}

interface Reply {
  readonly status: number;
  readonly body: object;
}

type Application = (request: Request) => Promise<Reply>;

const APPLICATIONS: { readonly [app: string]: Application } = {
  productpage: async ({ book, call }) => {
    const calls = [call("details", `/details/${book}`), call("reviews", `/reviews/${book}`)] as const;
    const [details, reviews] = await Promise.all(calls);
    const isWhole = details.status === 200 && reviews.status === 200;
    return { status: isWhole ? 200 : 500, body: { details: parse(details), reviews: parse(reviews) } };
  },
  details: async () => ({
    status: 200,
    body: { title: "The Comedy of Errors", author: "William Shakespeare", year: 1595, pages: 200, language: "English" },
  }),
  reviews: async ({ workload, book, call }) => {
    const reviews = ["An extremely entertaining play.", "Absolutely fun, but the play lacks thematic depth."];
    if (workload.version === "v1") return { status: 200, body: { reviews } };
    const ratings = await call("ratings", `/ratings/${book}`);
    // A page without stars is still a page.
    const stars = ratings.status === 200 ? parse(ratings) : "ratings are unavailable";
    return { status: 200, body: { reviews, stars, colour: workload.version === "v2" ? "black" : "red" } };
  },
  ratings: async ({ book, database }) => {
    const found = await database?.ask(book);
    return { status: 200, body: { ratings: found ? JSON.parse(found) : { "Reviewer 1": 5, "Reviewer 2": 4 } } };
  },
};

/** Starts the workload's application. Rejects when its port is taken. The function that it gives stops it. */
export async function startBookinfo(options: BookinfoOptions): Promise<() => Promise<void>> {
  const { workload, subnet } = options;
  const application = APPLICATIONS[workload.app];
  if (application === undefined) throw new Error(`no application for ${workload.app}`);
  const agent = new Agent({ keepAlive: true });
  let received = 0;
  const server = createServer((incoming, outgoing) => {
    received++;
    answer(options, application, agent, received, incoming, outgoing).catch((error: unknown) => {
      outgoing.destroy(error instanceof Error ? error : undefined);
    });
  });
  // The sidecar decides when a connection ends. If the server did, a request could meet a connection just being closed.
  server.keepAliveTimeout = 0;
  await listen(server, addressOf(workload, subnet));
  return () =>
    new Promise((resolve) => {
      agent.destroy();
      server.close(() => resolve());
      server.closeAllConnections();
    });
}

async function answer(
  options: BookinfoOptions,
  application: Application,
  agent: Agent,
  turn: number,
  incoming: IncomingMessage,
  outgoing: ServerResponse,
): Promise<void> {
  const { workload, tally, database } = options;
  const sinceNs = process.hrtime.bigint();
  tally.inspect(incoming.headers);
  const habits = options.faults ? HABITS[workload.app] : undefined;
  const delayMs = order(incoming, DELAY_HEADER, workload) ?? (isTurn(turn, habits?.slowEvery) ? habits?.slowMs : 0);
  if (delayMs) await sleep(delayMs);

  const failure =
    orderedFailure(incoming, workload) ?? (isTurn(turn, habits?.failEvery) ? habits?.failWith : undefined);
  const book = bookOf(incoming.url ?? "");
  const call = (service: string, path: string) => ask(options, agent, incoming, service, path);
  const reply =
    failure === undefined
      ? await application({ workload, book, call, database }).catch((error: unknown) => ({
          // Its own sidecar is gone or cut the connection.
          status: 500,
          body: { error: error instanceof Error ? error.message : String(error) },
        }))
      : { status: failure, body: { error: "failed on purpose" } };

  const body = JSON.stringify(reply.body);
  tally.count(callerOf(incoming), workload.name, reply.status);
  tally.measure({
    side: "server",
    source: callerOf(incoming),
    destination: workload.name,
    path: incoming.url ?? "",
    code: reply.status,
    headersReceived: incoming.rawHeaders,
    bodyBytes: Buffer.byteLength(body),
    latencyNs: nanosecondsSince(sinceNs),
  });
  outgoing.writeHead(reply.status, { "content-type": "application/json" }).end(body);
}

/** Calls a service through the own sidecar, on behalf of the request that is being answered. */
async function ask(
  { workload, subnet, tally }: BookinfoOptions,
  agent: Agent,
  incoming: IncomingMessage,
  service: string,
  path: string,
): Promise<Answer> {
  const sinceNs = process.hrtime.bigint();
  const url = `http://${addressOf(workload, subnet)}:${PORTS.outbound}${path}`;
  const headers = { ...passedOn(incoming), [CALLER_HEADER]: workload.name, host: `${service}:${SERVICE_PORT}` };
  const response = await httpCall(url, headers, agent);
  tally.inspect(response.headers);
  tally.measure({
    side: "client",
    source: workload.name,
    destination: service,
    path,
    code: response.status,
    headersReceived: response.rawHeaders,
    bodyBytes: Buffer.byteLength(response.body),
    latencyNs: nanosecondsSince(sinceNs),
  });
  return response;
}

function nanosecondsSince(ns: bigint): number {
  return Number(process.hrtime.bigint() - ns);
}

/** The code that FAULT_HEADER orders for this application, if any. */
function orderedFailure(incoming: IncomingMessage, workload: Workload): number | undefined {
  const code = order(incoming, FAULT_HEADER, workload);
  return code !== undefined && code >= 200 && code <= 599 ? code : undefined;
}

/** The number that a header orders for this application: 503 of "ratings=503,details=500". */
function order(incoming: IncomingMessage, header: string, workload: Workload): number | undefined {
  const orders = String(incoming.headers[header] ?? "").split(",");
  const own = orders.find((text) => text.startsWith(`${workload.app}=`));
  const value = Number(own?.slice(workload.app.length + 1));
  return Number.isInteger(value) ? value : undefined;
}

/** The number at the end of a path, "/reviews/7"; 0 without one. */
function bookOf(path: string): number {
  return Number(/\/(\d{1,9})$/.exec(path)?.[1] ?? 0);
}

function callerOf(incoming: IncomingMessage): string {
  return String(incoming.headers[CALLER_HEADER] ?? "unknown");
}

function passedOn(incoming: IncomingMessage): NodeJS.Dict<string> {
  const headers: NodeJS.Dict<string> = {};
  for (const name of PASSED_ON) {
    const value = incoming.headers[name];
    if (value !== undefined) headers[name] = String(value);
  }
  return headers;
}

function isTurn(turn: number, every: number | undefined): boolean {
  return every !== undefined && turn % every === 0;
}

function parse(answer: Answer): unknown {
  try {
    return JSON.parse(answer.body);
  } catch (_notJson: unknown) {
    return answer.body; // an error page of Envoy is plain text
  }
}

function listen(server: Server, address: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(PORTS.app, address, () => {
      server.removeListener("error", reject);
      resolve();
    });
  });
}
