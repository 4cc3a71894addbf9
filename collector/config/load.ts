// Defaults, one YAML file, environment -> Config, or all that is wrong with them. The only reader of configuration files.

import { readFileSync } from "node:fs";
import { dirname } from "node:path";
import type { Surroundings } from "../client/settings.ts";
import { CollectorError, quote } from "../error.ts";
import {
  checkBounds,
  checkEndpointRules,
  checkListeners,
  checkNameRules,
  checkReceivers,
  checkScrape,
  readOpenApiFiles,
} from "./checks.ts";
import { type Config, LOG_LEVELS, type LogLevel } from "./config.ts";
import { Faults } from "./faults.ts";
import { configOf, type LoadedFile } from "./file-config.ts";
import { type FileConfig, level } from "./schema.ts";
import { checkSchema, withSections } from "./schema-check.ts";
import { YamlText } from "./yaml-text.ts";

/** What the configuration comes from. */
export interface ConfigSource {
  /** Path of the YAML file; null for defaults alone. */
  readonly path: string | null;
  /** LOG_LEVEL is read, and wins over the file. */
  readonly env: Readonly<NodeJS.ProcessEnv>;
}

/** Throws CollectorError `config_invalid` that lists every fault, one a line, when there is any. */
export function loadConfig({ path, env }: ConfigSource): Config {
  const faults: string[] = [];
  const around = { folder: path === null ? "." : dirname(path), env };
  const file = path === null ? { values: {}, openapi: [] } : readFile(path, around, faults);
  const logLevel = readLogLevel(env, faults);
  if (file === null || faults.length > 0) throw new CollectorError("config_invalid", faults.join("\n"));
  return configOf(file, logLevel, around);
}

function readLogLevel(env: Readonly<NodeJS.ProcessEnv>, faults: string[]): LogLevel | null {
  const text = env["LOG_LEVEL"] ?? "";
  if (text === "") return null;
  const known = LOG_LEVELS.find((name) => name === text.toLowerCase());
  if (!known) faults.push(`LOG_LEVEL: found ${quote(text)}, expected ${level.description}`);
  return known ?? null;
}

/** Null when the file is not valid, and then `faults` says why. */
function readFile(path: string, around: Surroundings, faults: string[]): LoadedFile | null {
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch (error: unknown) {
    faults.push(`${path}: cannot be read: ${error instanceof Error ? error.message : String(error)}`);
    return null;
  }
  try {
    const yaml = new YamlText(text);
    const found = new Faults(path, yaml);
    const file = check(yaml, around, found);
    faults.push(...found.inOrder());
    return found.isEmpty ? file : null;
  } catch (error: unknown) {
    // The YAML library gives up on thousands of nested brackets, for one.
    faults.push(`${path}:1:1: cannot be read: ${error instanceof Error ? error.message : String(error)}`);
    return null;
  }
}

/** What the file holds, to be used only if there are no faults. */
function check(yaml: YamlText, around: Surroundings, faults: Faults): LoadedFile {
  for (const { offset, text } of yaml.faults()) faults.tellAt(offset, text);
  if (!faults.isEmpty) return { values: {}, openapi: [] };
  const value = withSections(yaml.value());
  checkSchema(value, faults);
  checkListeners(value, around.folder, faults);
  checkNameRules(value, faults);
  checkEndpointRules(value, faults);
  const openapi = readOpenApiFiles(value, around.folder, faults);
  const values = value as FileConfig;
  if (faults.isEmpty) {
    checkBounds(values, faults);
    checkScrape(values, around, faults);
    checkReceivers(values, around, faults);
  }
  return { values, openapi };
}
