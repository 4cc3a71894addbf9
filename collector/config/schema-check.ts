// A file's value against the schema: what it says of a fault, and what the fault says was found.

import type { TSchema } from "@sinclair/typebox";
import { Ajv, type ErrorObject } from "ajv";
import { quote } from "../error.ts";
import type { Faults } from "./faults.ts";
import { FORMATS } from "./formats.ts";
import { FILE_SCHEMA, type FileConfig } from "./schema.ts";
import { isSection, type Path } from "./sections.ts";

/** The value is a FileConfig if it adds no fault. */
export function checkSchema(value: unknown, faults: Faults): void {
  const ajv = new Ajv({ allErrors: true, verbose: true, formats: { ...FORMATS } });
  const validate = ajv.compile<FileConfig>(schemaFor(value, FILE_SCHEMA));
  if (!validate(value)) for (const error of validate.errors ?? []) report(error, faults);
}

/** The schema without what it says of keys that the value has not: to compile all of it takes longer than all else that a start does. */
function schemaFor(value: unknown, schema: TSchema): TSchema {
  const properties = schema["properties"] as Readonly<Record<string, TSchema>> | undefined;
  if (properties === undefined || !isSection(value)) return schema;
  const needed = Object.entries(properties).map(([key, of]) => {
    const isThere = Object.hasOwn(value, key);
    return [key, isThere ? schemaFor(value[key], of) : { description: of["description"] }];
  });
  return { ...schema, properties: Object.fromEntries(needed) };
}

function report({ instancePath, keyword, params, parentSchema, data }: ErrorObject, faults: Faults): void {
  const path: Path = instancePath.split("/").slice(1);
  if (keyword === "required") {
    const key = String(params["missingProperty"]);
    const { properties } = parentSchema as { properties: Readonly<Record<string, TSchema>> };
    faults.report([...path, key], "nothing", String(properties[key]?.["description"]), path);
    return;
  }
  if (keyword !== "additionalProperties") {
    faults.report(path, shown(path, data), String(parentSchema?.["description"]));
    return;
  }
  const key = String(params["additionalProperty"]);
  const { properties, description } = parentSchema as { properties?: object; description: string };
  if (properties === undefined) {
    faults.reportKey(path, key, "a name that it cannot have", description);
    return;
  }
  const known = Object.keys(properties);
  faults.reportKey(path, key, "an unknown key", `${nearest(key, known)} (known here: ${known.join(", ")})`);
}

/** What a fault says of a value. Of what goes to receivers of metrics only what can hold no secret. */
function shown(path: Path, data: unknown): string {
  if (path[0] !== "remote_write" && path[0] !== "otlp_export") return quote(withoutUser(data));
  if (Array.isArray(data)) return "a list";
  if (isSection(data)) return "a section";
  if (path[2] === "headers" && path[4] !== "name") return `a ${typeof data} that it cannot be`;
  return quote(typeof data === "string" ? String(withoutUser(data)).replace(/\?.*/, "?...") : data);
}

/** A URL without what stands before its @, which may be a password. */
function withoutUser(value: unknown): unknown {
  return typeof value === "string" ? value.replace(/\/\/.*@/, "//***@") : value;
}

/** The known name with the fewest letters to change. */
function nearest(name: string, known: readonly string[]): string {
  const byDistance = known.map((candidate) => ({ candidate, distance: editDistance(name, candidate) }));
  return byDistance.sort((a, b) => a.distance - b.distance)[0]?.candidate ?? "";
}

/** Levenshtein distance, row by row. */
function editDistance(from: string, to: string): number {
  let row = Array.from({ length: to.length + 1 }, (_, index) => index);
  for (let i = 1; i <= from.length; i++) {
    const next = [i];
    for (let j = 1; j <= to.length; j++) {
      const replaced = (row[j - 1] as number) + (from[i - 1] === to[j - 1] ? 0 : 1);
      next.push(Math.min(replaced, (row[j] as number) + 1, (next[j - 1] as number) + 1));
    }
    row = next;
  }
  return row[to.length] as number;
}

/** Where the schema has a section, null reads as an empty one: all its keys are commented out. */
export function withSections(value: unknown, schema: TSchema = FILE_SCHEMA): unknown {
  if (schema["type"] !== "object") return value;
  if (value === null) return {};
  if (!isSection(value)) return value;
  const { properties } = schema as unknown as { properties: Readonly<Record<string, TSchema>> };
  const entries = Object.entries(value).map(([key, inner]) => {
    const of = Object.hasOwn(properties, key) ? properties[key] : undefined;
    return [key, of === undefined ? inner : withSections(inner, of)];
  });
  return Object.fromEntries(entries);
}
