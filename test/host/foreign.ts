// Envoy's foreign functions as wasm calls them: CEL expressions, evaluated by an independent implementation, and
// `declare_property`. https://github.com/envoyproxy/envoy/blob/main/source/extensions/common/wasm/foreign.cc

import { type CelInput, celEnv, isCelError, isCelList, isCelUint, parse, plan, run } from "@bufbuild/cel";
import protobuf from "protobufjs";
import { WASM_STATE_PREFIX } from "../../filter/vocabulary/peer-metadata.ts";
import { type CelObject, type CelValue, Nanoseconds } from "./attributes.ts";
import { type PropertyValue, serializeProperty } from "./property.ts";
import { STATUS } from "./status.ts";

/** What a foreign function answers: bytes, or a status other than ok. */
type ForeignResult = Uint8Array | number;

interface Plugin {
  readonly expressions: Map<number, Expression>;
  /** Names with their `wasm.`, and whether each is a Struct. */
  readonly declared: Map<string, boolean>;
  nextToken: number;
}

interface Expression {
  readonly evaluate: (variables: Record<string, CelInput>) => unknown;
  /** Roots inside `has(...)`, which fails in Envoy when there is no such root. */
  readonly questionedRoots: readonly string[];
}

const TYPE_PROTOBUF = 3;
const STRUCT_SCHEMA = "type.googleapis.com/google.protobuf.Struct";
const NO_BYTES = new Uint8Array(0);

/** Tokens and declarations of each root context, as Envoy keeps them: no plugin sees another's. */
export class ForeignFunctions {
  private readonly plugins = new Map<number, Plugin>();

  /** `variables` is asked for only by an evaluation. */
  call(rootId: number, name: string, parameters: Buffer, variables: () => CelObject): ForeignResult {
    const plugin = this.plugin(rootId);
    switch (name) {
      case "expr_create":
        return create(plugin, parameters.toString("utf8"));
      case "expr_evaluate":
        return evaluate(plugin, parameters, variables);
      case "expr_delete":
        if (parameters.length !== 4) return STATUS.badArgument;
        plugin.expressions.delete(parameters.readUInt32LE());
        return NO_BYTES;
      case "declare_property":
        return declare(plugin, parameters);
      default:
        return STATUS.notFound;
    }
  }

  /** Filter states that are Structs. */
  structs(rootId: number): ReadonlySet<string> {
    return new Set([...this.plugin(rootId).declared].filter(([, isStruct]) => isStruct).map(([name]) => name));
  }

  /** How many expressions a plugin holds. */
  expressionCount(rootId: number): number {
    return this.plugin(rootId).expressions.size;
  }

  private plugin(rootId: number): Plugin {
    let plugin = this.plugins.get(rootId);
    if (plugin === undefined) {
      plugin = { expressions: new Map(), declared: new Map(), nextToken: 0 };
      this.plugins.set(rootId, plugin);
    }
    return plugin;
  }
}

const environment = celEnv();

function create(plugin: Plugin, source: string): ForeignResult {
  const expression = compile(source);
  if (expression === undefined) return STATUS.badArgument;
  const token = Buffer.alloc(4);
  token.writeUInt32LE(plugin.nextToken);
  plugin.expressions.set(plugin.nextToken++, expression);
  return token;
}

/** undefined for what does not parse, nests too deep, or calls a function that does not exist. */
function compile(source: string): Expression | undefined {
  let tree: ReturnType<typeof parse>;
  try {
    tree = parse(source);
  } catch {
    return undefined; // a syntax error, or the parser's own stack ran out
  }
  const questionedRoots: string[] = [];
  let isKnown = true;
  visit(tree.expr, (node) => {
    if (node.case === "selectExpr" && node.value["testOnly"] === true) questionedRoots.push(...rootOf(node.value));
    if (node.case === "callExpr") isKnown &&= isFunction(node.value);
  });
  return isKnown ? { evaluate: plan(environment, tree), questionedRoots } : undefined;
}

/** What a node of the syntax tree is. */
interface Kind {
  readonly case: string;
  readonly value: Record<string, unknown>;
}

/** Calls `see` with each node. */
function visit(tree: unknown, see: (node: Kind) => void): void {
  if (typeof tree !== "object" || tree === null) return;
  if ("case" in tree && "value" in tree && typeof tree.value === "object") see(tree as Kind);
  for (const member of Object.values(tree)) visit(member, see);
}

/** The name that a chain of selects begins with; none when it begins with something else. */
function rootOf(select: Record<string, unknown>): string[] {
  const operand = (select["operand"] as { exprKind: Kind }).exprKind;
  if (operand.case === "identExpr") return [String(operand.value["name"])];
  return operand.case === "selectExpr" ? rootOf(operand.value) : [];
}

/** Operators are no words. */
function isFunction(call: Record<string, unknown>): boolean {
  const name = String(call["function"]);
  if (!/^\w+$/.test(name)) return true;
  const count = (call["args"] as unknown[]).length;
  const isMethod = call["target"] !== undefined;
  for (const one of environment.funcs.find(name) ?? []) {
    if (one.arguments.length === count && (one.target !== undefined) === isMethod) return true;
  }
  return false;
}

function evaluate(plugin: Plugin, parameters: Buffer, variables: () => CelObject): ForeignResult {
  if (parameters.length !== 4) return STATUS.badArgument;
  const expression = plugin.expressions.get(parameters.readUInt32LE());
  if (expression === undefined) return STATUS.notFound;
  const roots = variables();
  if (!expression.questionedRoots.every((root) => Object.hasOwn(roots, root))) return STATUS.internalFailure;
  const value = expression.evaluate(withDurations(roots) as Record<string, CelInput>);
  if (isCelError(value)) return STATUS.internalFailure;
  const property = toProperty(value);
  return (property === undefined ? null : serializeProperty(property)) ?? STATUS.serializationFailure;
}

function withDurations(value: CelValue): CelValue {
  if (value instanceof Nanoseconds) return run(`duration('${value.count}ns')`);
  if (typeof value !== "object" || value === null || Array.isArray(value) || value instanceof Uint8Array) return value;
  return Object.fromEntries(Object.entries(value).map(([name, member]) => [name, withDurations(member)]));
}

/** undefined for what the host hands over otherwise, or not at all: maps, messages, durations. */
function toProperty(value: unknown): PropertyValue | undefined {
  if (value === null || typeof value === "string" || typeof value === "boolean") return value;
  if (typeof value === "bigint" || typeof value === "number") return value;
  if (value instanceof Uint8Array) return Buffer.from(value);
  if (isCelUint(value)) return value.value;
  if (isCelList(value)) return [...value].map(toProperty) as PropertyValue;
  return undefined;
}

const ArgumentsType = protobuf
  .parse(
    `syntax = "proto3";
     message Arguments { string name = 1; bool readonly = 2; int32 type = 3; string schema = 4; int32 span = 5; }`,
  )
  .root.lookupType("Arguments");

function declare(plugin: Plugin, parameters: Buffer): ForeignResult {
  const declaration = ArgumentsType.decode(parameters) as unknown as { name: string; type: number; schema: string };
  const name = WASM_STATE_PREFIX + declaration.name;
  if (plugin.declared.has(name)) return STATUS.badArgument;
  plugin.declared.set(name, declaration.type === TYPE_PROTOBUF && declaration.schema === STRUCT_SCHEMA);
  return NO_BYTES;
}
