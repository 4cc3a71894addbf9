// What the schema cannot tell of a file: what depends on several keys, on other files, or on a language of its own.

import { resolve } from "node:path";
import { isRegexPath } from "../analysis/endpoints.ts";
import { loadOpenApi } from "../analysis/openapi.ts";
import { parsePathTemplate } from "../analysis/path-template.ts";
import { isPattern } from "../analysis/pattern.ts";
import {
  checkAccess,
  checkExposure as checkClientExposure,
  checkClientTls,
  isServerUrl,
  type RawAccess,
  type RawClientTls,
  type Surroundings,
} from "../client/settings.ts";
import { CollectorError, quote } from "../error.ts";
import { parseNameRule } from "../identity/names.ts";
import { type RawOtlpReceiver, withEnvironment } from "../out/otel-environment.ts";
import { checkReceiver, nameOf, type RawReceiver } from "../out/settings.ts";
import { checkCredentials, readTlsFilesSync } from "../tls/credentials.ts";
import type { Faults } from "./faults.ts";
import { boundsOf, tlsFiles } from "./file-config.ts";
import { isLoopback, parseAddress } from "./formats.ts";
import { endpointPath, type FileConfig, type FileTls, receiverUrl } from "./schema.ts";
import { entriesAt, isSection, type Path, type Section, setKeys, valueAt } from "./sections.ts";

/** Sections that say where to listen. */
const LISTENERS: readonly Path[] = [["grpc"], ["http"], ["otlp", "grpc"], ["otlp", "http"]];

export function checkListeners(value: unknown, folder: string, faults: Faults): void {
  for (const path of LISTENERS) {
    const listener = valueAt(value, path);
    if (!isSection(listener)) continue;
    checkExposure(listener, path, faults);
    checkTls(listener["tls"], [...path, "tls"], folder, faults);
  }
}

/** An address that more than this machine can reach must be asked for: nobody who comes there is authenticated. */
function checkExposure({ address, insecure, tls }: Section, listener: Path, faults: Faults): void {
  if (typeof address !== "string" || insecure === true) return;
  if (setKeys(tls).length > 0) return; // what is wrong with it has a fault of its own
  const parsed = parseAddress(address);
  if (!parsed || isLoopback(parsed.host)) return;
  const expected =
    "a loopback address, or beside it `tls`, or `insecure: true` (whoever reaches it is served, unauthenticated)";
  faults.report([...listener, "address"], quote(address), expected);
}

/** Certificate and key come together, and the files must be of use now: a restart is a bad moment to find out. */
function checkTls(section: unknown, path: Path, folder: string, faults: Faults): void {
  const keys = setKeys(section);
  if (keys.length === 0) return;
  const missing = ["certificate", "key"].filter((key) => !keys.includes(key));
  if (missing.length > 0) {
    faults.report(path, `no ${missing.join(" and no ")}`, "certificate and key, both");
    return;
  }
  const files = tlsFiles(section as FileTls, folder);
  if (files === null) return;
  const checked = checkCredentials(readTlsFilesSync(files));
  if (checked.ok) return;
  const { file, found, expected } = checked;
  const where = found.includes(`'${files[file]}'`) ? "" : ` in ${files[file]}`; // most of the system's own words name it
  faults.report([...path, file === "clientCa" ? "client_ca" : file], `${found}${where}`, expected);
}

/** A template's fault is told with the place in it. */
export function checkNameRules(value: unknown, faults: Faults): void {
  for (const name of ["service", "instance"]) {
    const path = ["identity", "names", name];
    const text = valueAt(value, path);
    if (typeof text !== "string") continue;
    const parsed = parseNameRule(text);
    if (parsed.ok) continue;
    const { character, found, expected } = parsed.fault;
    faults.report(path, `${found} at character ${character} of ${quote(text)}`, expected);
  }
}

/** Bounds rise, and those that are shown are some of them. Of a file that has passed the schema. */
export function checkBounds({ metrics }: FileConfig, faults: Faults): void {
  for (const [index, bound] of (metrics?.bounds ?? []).entries()) {
    const before = metrics?.bounds?.[index - 1] ?? 0;
    if (bound > before) continue;
    faults.report(["metrics", "bounds", index], String(bound), `a bound above the one before it, ${before}`);
  }
  const counted = boundsOf(metrics);
  for (const [histogram, chosen] of Object.entries(metrics?.buckets ?? {})) {
    for (const [index, bound] of chosen.entries()) {
      if (counted.includes(bound)) continue;
      const expected = `one of the bounds that proxies count by (metrics.bounds): ${counted.join(", ")}`;
      faults.report(["metrics", "buckets", histogram, index], String(bound), expected);
    }
  }
}

/** A regular expression says nothing that could be shown, so it wants a name. */
export function checkEndpointRules(value: unknown, faults: Faults): void {
  for (const [index, { path: text, endpoint }] of entriesAt(value, ["endpoints", "rules"])) {
    if (typeof text !== "string") continue;
    const path = ["endpoints", "rules", index, "path"];
    if (!isRegexPath(text)) {
      const parsed = parsePathTemplate(text);
      if (!parsed.ok) faults.report(path, parsed.found, parsed.expected);
    } else if (!isPattern(text)) {
      faults.report(path, quote(text), String(endpointPath.description));
    } else if (endpoint === undefined) {
      faults.report(path, quote(text), "`endpoint: NAME` beside a regular expression");
    }
  }
}

/** The path templates of each file of `endpoints.openapi`; complete only if it adds no fault. */
export function readOpenApiFiles(value: unknown, folder: string, faults: Faults): string[][] {
  const templates: string[][] = [];
  for (const [index, { file }] of entriesAt(value, ["endpoints", "openapi"])) {
    if (typeof file !== "string") continue;
    try {
      templates[index] = loadOpenApi(resolve(folder, file));
    } catch (error: unknown) {
      if (!(error instanceof CollectorError)) throw error;
      faults.tell(["endpoints", "openapi", index, "file"], error.message);
    }
  }
  return templates;
}

/** As whom targets and servers that name them are asked. */
export function checkScrape({ scrape = {} }: FileConfig, around: Surroundings, faults: Faults): void {
  const { http_sd = {} } = scrape;
  const access = http_sd as RawAccess; // in which a key that is absent and one that is undefined are the same
  for (const { path, found, expected } of checkClientTls(scrape as RawClientTls, around))
    faults.report(["scrape", ...path], found, expected);
  for (const { path, found, expected } of checkAccess(access, around))
    faults.report(["scrape", "http_sd", ...path], found, expected);
  for (const [index, url] of (http_sd.urls ?? []).entries()) {
    for (const { found, expected } of checkClientExposure({ ...access, url }))
      faults.report(["scrape", "http_sd", "urls", index], found, expected);
  }
}

/** What receivers have had to themselves so far. */
interface Taken {
  readonly names: Set<string>;
  readonly folders: Set<string>;
}

/** Receivers of metrics are told apart by name, and each needs a folder of its own. */
export function checkReceivers(
  { remote_write = [], otlp_export = [] }: FileConfig,
  around: Surroundings,
  faults: Faults,
): void {
  const taken: Taken = { names: new Set(), folders: new Set() };
  for (const [index, file] of remote_write.entries())
    checkOneReceiver(["remote_write", index], file as RawReceiver, { around, taken, faults });
  for (const [index, file] of otlp_export.entries()) {
    const path = ["otlp_export", index];
    const raw = withEnvironment(file as RawOtlpReceiver, around.env);
    if (isServerUrl(raw.url)) {
      checkOneReceiver(path, raw, { around, taken, faults });
      continue;
    }
    const found = raw.url === "" ? "none" : "in OTEL_EXPORTER_OTLP_ENDPOINT what is no URL";
    faults.report([...path, "url"], found, `${receiverUrl.description}, here or in the environment`, path);
  }
}

function checkOneReceiver(
  place: Path,
  raw: RawReceiver,
  { around, taken, faults }: { around: Surroundings; taken: Taken; faults: Faults },
): void {
  for (const { path, found, expected } of checkReceiver(raw, around))
    faults.report([...place, ...path], found, expected);
  const name = nameOf(raw);
  if (taken.names.has(name)) faults.report([...place, "name"], `${quote(name)} a second time`, "a name of its own");
  taken.names.add(name);
  if (raw.queue?.folder === undefined) return;
  const folder = resolve(around.folder, raw.queue.folder);
  if (taken.folders.has(folder)) {
    const found = `${quote(raw.queue.folder)} a second time`;
    faults.report([...place, "queue", "folder"], found, "a folder of its own");
  }
  taken.folders.add(folder);
}
