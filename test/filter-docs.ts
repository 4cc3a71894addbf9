// docs/filter.md, read: its fields and its examples. What an example says is written down there, at "How to read the examples".

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { PEER_METADATA_HEADER } from "../collector/vocabulary.ts";
import { projectRoot } from "../envoy/project.ts";
import type { Sample } from "./e2e/exposition.ts";
import {
  decodeMetadata,
  exchangedMetadata,
  exchangeHeaders,
  makeNode,
  PRODUCTPAGE,
  REVIEWS,
  withMetadata,
} from "./host/mesh.ts";
import type { Node } from "./host/property.ts";
import type { JsonObject } from "./host/struct.ts";

export interface Field {
  /** "metrics[].name" */
  readonly path: string;
  /** What stands behind "Default: ", without backquotes. */
  readonly default: string;
}

/** A request of an example. */
export interface Call {
  /** "gRPC" for a gRPC stream, "TCP" for a connection. */
  readonly method: string;
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  /** Whether it carries the metadata of productpage-v1. */
  readonly isFromPeer: boolean;
  /** Of that metadata, how much more labels it has, in bytes. */
  readonly moreLabelBytes: number;
  readonly isMutualTls: boolean;
  readonly isExternal: boolean;
  readonly times: number;
  readonly client: string;
  /** gRPC messages each way, or bytes of a TCP connection; and whether it stays open until the filter has reported it. */
  readonly messages: readonly [number, number];
  readonly bytes: readonly [number, number];
  /** The cluster that a TCP connection is led to, if not the usual one; and whether its endpoint is marked as of the mesh. */
  readonly cluster: string | null;
  readonly isMeshEndpoint: boolean;
  readonly isOpen: boolean;
}

export interface Matcher {
  readonly name: string;
  /** Label to its value; null for any. */
  readonly labels: Readonly<Record<string, string | null>>;
}

/** What is to be seen after the calls before it. */
export type Expectation =
  | { readonly kind: "series"; readonly matcher: Matcher; readonly value: number }
  | { readonly kind: "absent"; readonly matcher: Matcher }
  | { readonly kind: "header"; readonly to: "server" | "caller"; readonly header: string; readonly isThere: boolean }
  | { readonly kind: "label"; readonly label: string; readonly value: string }
  | { readonly kind: "logged"; readonly paths: readonly string[] };

export interface Example {
  /** The heading above and the line in the file: a name for the test. */
  readonly title: string;
  readonly json: string;
  readonly isInbound: boolean;
  /** Whether it is for the test host, since a lone Envoy does not do. */
  readonly isForHost: boolean;
  /** In order: calls, and what is to be seen after them. */
  readonly steps: readonly (Call | Expectation)[];
}

/** A fenced block. */
interface Block {
  readonly heading: string;
  readonly line: number;
  readonly language: string;
  readonly text: string;
  /** The lines just before it, up to an empty one. */
  readonly before: string;
}

const TEXT = readFileSync(join(projectRoot(), "docs/filter.md"), "utf8");
const HOST_MARKER = "<!-- in the test host";
const ON_INBOUND = "on an inbound listener";

/** Whose proxy it is, and who answers behind it. */
export const PROXY: Node = withMetadata(REVIEWS, {
  LABELS: { ...(REVIEWS.metadata["LABELS"] as JsonObject), team: "payments" },
});
export const SERVER: Node = makeNode("ratings", "v1", "127.0.1.4");

export const FIELDS: readonly Field[] = TEXT.split(/^(?=##+ )/m).flatMap((section) => {
  const [, path] = /^### `(.+)`\n/.exec(section) ?? [];
  if (path === undefined) return [];
  const [, value] = /^### .+\n.*Default: (.+)\.\n/.exec(section) ?? [];
  if (value === undefined) throw new Error(`docs/filter.md: ${path} does not say its default in its first line`);
  return [{ path, default: value.replaceAll("`", "") }];
});

export const BLOCKS: readonly Block[] = blocks(TEXT);

export const EXAMPLES: readonly Example[] = BLOCKS.flatMap((block, i) => {
  if (block.language !== "json") return [];
  const outcome = BLOCKS[i + 1];
  const title = `${block.heading}, line ${block.line}`;
  if (outcome?.language !== "text") throw new Error(`docs/filter.md: ${title}: a configuration without an outcome`);
  const lines = outcome.text.split("\n").filter((line) => line !== "");
  const isInbound = lines[0] === ON_INBOUND;
  return [
    {
      title,
      json: block.text,
      isInbound,
      isForHost: block.before.startsWith(HOST_MARKER),
      steps: lines.slice(isInbound ? 1 : 0).map(readStep),
    },
  ];
});

function blocks(text: string): Block[] {
  const found: Block[] = [];
  const lines = text.split("\n");
  let heading = "";
  for (let i = 0; i < lines.length; i++) {
    const line = lines[i] as string;
    if (line.startsWith("#")) heading = line.replace(/^#+ /, "").replaceAll("`", "");
    if (!line.startsWith("```")) continue;
    const end = lines.indexOf("```", i + 1);
    const start = lines.lastIndexOf("", i) + 1;
    found.push({
      heading,
      line: i + 1,
      language: line.slice(3),
      text: lines.slice(i + 1, end).join("\n"),
      before: lines.slice(start, i).join("\n"),
    });
    i = end;
  }
  return found;
}

export function isCall(step: Call | Expectation): step is Call {
  return "method" in step;
}

/** The exchange headers that a call carries. */
export function peerHeaders({ isFromPeer, moreLabelBytes }: Call): Readonly<Record<string, string>> {
  if (!isFromPeer) return {};
  const metadata = exchangedMetadata(PRODUCTPAGE);
  const labels = { ...(metadata["LABELS"] as JsonObject), padding: "x".repeat(moreLabelBytes) };
  return Object.fromEntries(exchangeHeaders(PRODUCTPAGE, { ...metadata, LABELS: labels }));
}

function readStep(line: string): Call | Expectation {
  if (line.startsWith("> ")) return readCall(line.slice(2));
  const [, no, to, header, label, value] =
    /^(not )?to the (server|caller): ([a-z-]+)(?: LABELS\.(\w+)=(\w+))?$/.exec(line) ?? [];
  if (label !== undefined && value !== undefined) return { kind: "label", label, value };
  if (header !== undefined) {
    return { kind: "header", to: to as "server" | "caller", header, isThere: no === undefined };
  }
  if (line.startsWith("logged: ")) return { kind: "logged", paths: line.slice("logged: ".length).split(" ") };
  if (line.startsWith("absent: ")) return { kind: "absent", matcher: readMatcher(line.slice("absent: ".length)) };
  const space = line.lastIndexOf(" ");
  const count = Number(line.slice(space + 1));
  if (space < 0 || !Number.isInteger(count)) throw new Error(`docs/filter.md: what is ${JSON.stringify(line)}?`);
  return { kind: "series", matcher: readMatcher(line.slice(0, space)), value: count };
}

/** `GET /, from productpage-v1, x-tenant: red` */
function readCall(text: string): Call {
  const [request = "", ...parts] = text.split(", ");
  const [method = "", path = ""] = request.split(" ");
  const call = {
    method,
    path,
    headers: {} as Record<string, string>,
    isFromPeer: false,
    moreLabelBytes: 0,
    isMutualTls: false,
    isExternal: false,
    times: 1,
    client: "10.0.0.1",
    messages: [0, 0] as [number, number],
    bytes: [0, 0] as [number, number],
    cluster: null as string | null,
    isMeshEndpoint: false,
    isOpen: false,
  };
  for (const part of parts) {
    const [, name, value] = /^([a-z-]+): (.+)$/.exec(part) ?? [];
    const [, count, what] = /^(\d+) (times|messages|answers|bytes|bytes back)$/.exec(part) ?? [];
    if (name !== undefined && value !== undefined) call.headers[name] = value;
    else if (what === "times") call.times = Number(count);
    else if (what?.startsWith("bytes")) call.bytes[what === "bytes" ? 0 : 1] = Number(count);
    else if (what !== undefined) call.messages[what === "messages" ? 0 : 1] = Number(count);
    else if (part === "from productpage-v1") call.isFromPeer = true;
    else if (part === "with 1 KiB of labels") call.moreLabelBytes = 1024;
    else if (part === "over mutual TLS") call.isMutualTls = true;
    else if (part === "by PassthroughCluster") call.isExternal = true;
    else if (part === "open for 1 s") call.isOpen = true;
    else if (part === "to an endpoint of the mesh") call.isMeshEndpoint = true;
    else if (part.startsWith("to cluster ")) call.cluster = part.slice("to cluster ".length);
    else if (part.startsWith("client ")) call.client = part.slice("client ".length);
    else throw new Error(`docs/filter.md: what is ${JSON.stringify(part)} in ${JSON.stringify(text)}?`);
  }
  return call;
}

/** `name{label="value",label}` */
function readMatcher(text: string): Matcher {
  const [, name, inner = ""] = /^([a-zA-Z_][a-zA-Z0-9_]*)(?:\{(.*)\})?$/.exec(text) ?? [];
  if (name === undefined) throw new Error(`docs/filter.md: no series: ${text}`);
  const labels: Record<string, string | null> = {};
  const rest = inner.replace(/([a-zA-Z_][a-zA-Z0-9_]*)(?:="([^"]*)")?(?:,|$)/g, (_, label: string, value?: string) => {
    labels[label] = value ?? null;
    return "";
  });
  if (rest !== "") throw new Error(`docs/filter.md: no labels: ${inner}`);
  return { name, labels };
}

/** What there is to be seen at some time. */
export interface Outcome {
  /** What the stats have gained; series that gained nothing are left out. */
  readonly samples: readonly Sample[];
  /** Headers of the last request as the server got it, and of its answer as the caller did. */
  readonly toServer: Readonly<Record<string, unknown>>;
  readonly toCaller: Readonly<Record<string, unknown>>;
  /** Paths of the requests that the access log is to keep; null when that is not known yet. */
  readonly logged: readonly string[] | null;
}

/** The expectation as it would have to read; equal to it when it is right. */
export function seen(step: Expectation, { samples, toServer, toCaller, logged }: Outcome): Expectation {
  switch (step.kind) {
    case "series":
      return { ...step, value: sumOf(step.matcher, samples) ?? 0 };
    case "absent": {
      const value = sumOf(step.matcher, samples);
      return value === null ? step : { kind: "series", matcher: step.matcher, value };
    }
    case "header":
      return { ...step, isThere: step.header in (step.to === "server" ? toServer : toCaller) };
    case "label": {
      const metadata = decodeMetadata(String(toServer[PEER_METADATA_HEADER]));
      return { ...step, value: (metadata["LABELS"] as Record<string, string>)[step.label] ?? "" };
    }
    case "logged":
      return { ...step, paths: logged ?? step.paths };
  }
}

/** The labels that the outcomes of all examples speak of. */
export function labelsSpokenOf(): string[] {
  const steps = EXAMPLES.flatMap(({ steps }) => steps);
  const labels = steps.flatMap((step) => ("matcher" in step ? Object.keys(step.matcher.labels) : []));
  return [...new Set(labels)].sort();
}

function isMatch({ name, labels }: Matcher, sample: Sample): boolean {
  if (sample.name !== name) return false;
  return Object.entries(labels).every(([label, value]) =>
    value === null ? label in sample.labels : sample.labels[label] === value,
  );
}

/** What the matcher finds in the samples: the sum of all that match, null for none. */
export function sumOf(matcher: Matcher, samples: readonly Sample[]): number | null {
  const matching = samples.filter((sample) => isMatch(matcher, sample));
  return matching.length === 0 ? null : matching.reduce((sum, { value }) => sum + value, 0);
}
