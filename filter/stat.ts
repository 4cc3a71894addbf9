// Facts -> label set -> counted. The hot path is one look-up in a table and no string work at all.
//
//   key of facts (request.ts) --> Known: found by what decides the labels. Bounded, cleared when full.
//   labels (label-set.ts)     --> LabelSet: several keys may lead to one.

import { Config } from "./config/config.ts";
import { Custom, STANDARD_CONNECTION, STANDARD_MESSAGES } from "./custom/custom.ts";
import { DEFINITION_ROWS, MESSAGE_ROWS, Plan, STANDARD_PLAN, Subject, TCP_ROWS } from "./custom/plan.ts";
import { noteColdWork } from "./garbage.ts";
import { countFault, increment, record } from "./host.ts";
import { LabelSet, Metrics, resolveLabelSet } from "./label-set.ts";
import { isContradictory, labelValues } from "./labels.ts";
import { ownNode } from "./node.ts";
import { appendText, KEY, NOT_FINISHED, Request } from "./request.ts";
import { Table } from "./table.ts";
import { Fault, HttpMetric, MessageMetric, MetricKind, TcpMetric } from "./vocabulary/metrics.ts";

/** Keys of facts held at most: several may lead to one label set. */
const MAX_KEYS = 4096;

/** KiB of garbage that making the labels of a request leaves. */
const LABEL_SET_GARBAGE = 16;

/** What is known of a key of facts. */
@final
class Known {
  constructor(
    readonly set: LabelSet,
    readonly isContradictory: bool,
  ) {}
}

const byKey = new Table<Known>(MAX_KEYS);

/** A new configuration may admit what the old one did not: keys are looked up anew, label sets stay. */
export function forgetKeys(): void {
  byKey.clear();
}

/** Counts one finished request; the label set is the answer. A custom configuration must have been evaluated. */
export function countRequest(request: Request, config: Config): LabelSet {
  const custom = config.custom;
  const plan = custom === null ? STANDARD_PLAN : custom.plan(Subject.Request);
  const set = labelSetOf(request, plan, custom, config.maxLabelSets);
  set.define(Metrics.Http | Metrics.Definitions);
  const metrics = set.metrics;
  increment(metrics[HttpMetric.Requests], 1);
  if (request.durationMs !== NOT_FINISHED) record(metrics[HttpMetric.Duration], request.durationMs);
  record(metrics[HttpMetric.RequestBytes], request.requestBytes);
  record(metrics[HttpMetric.ResponseBytes], request.responseBytes);
  if (custom !== null) countDefinitions(set, custom);
  return set;
}

/** Adds to the gRPC message counters of a stream's label set. Adding 0 makes the series known. */
export function countMessages(set: LabelSet, requests: u64, responses: u64): void {
  set.define(Metrics.Messages);
  increment(set.metrics[MESSAGE_ROWS + MessageMetric.Requests], requests);
  increment(set.metrics[MESSAGE_ROWS + MessageMetric.Responses], responses);
}

/** The label set under which the messages of a stream in flight are counted; null when that cannot be known before its end. */
export function labelSetInFlight(request: Request, config: Config): LabelSet | null {
  const custom = config.custom;
  const plan = custom === null ? STANDARD_MESSAGES : custom.messagesInTick;
  return plan === null ? null : labelSetOf(request, plan, null, config.maxLabelSets);
}

/**
 * The label set of a connection; null when it cannot be known in a tick. Elsewhere a custom configuration must have been evaluated.
 */
export function labelSetOfConnection(facts: Request, config: Config, isTick: bool): LabelSet | null {
  const custom = config.custom;
  let plan: Plan | null = STANDARD_CONNECTION;
  if (custom !== null) plan = isTick ? custom.connectionInTick : custom.plan(Subject.Connection);
  if (plan === null) return null;
  const set = labelSetOf(facts, plan, isTick ? null : custom, config.maxLabelSets);
  set.define(Metrics.Tcp);
  return set;
}

/** Adds to one of the TCP counters. Adding 0 makes the series known. */
export function countTcp(set: LabelSet, metric: TcpMetric, by: u64): void {
  increment(set.metrics[TCP_ROWS + metric], by);
}

/** Counts what the configuration defines, for a connection that is over. It must have been evaluated. */
export function countOwnMetrics(set: LabelSet, custom: Custom): void {
  set.define(Metrics.Definitions);
  countDefinitions(set, custom);
}

/**
 * The label set of the facts; that of the overflow, which is counted, when there are too many. `custom` gives the values of the
 * plan's operands.
 */
function labelSetOf(request: Request, plan: Plan, custom: Custom | null, limit: i32): LabelSet {
  let size = request.writeKey();
  if (plan !== STANDARD_PLAN) size = appendPlan(size, plan, custom);
  let known = byKey.find(KEY, size); // fast path
  if (known === null) {
    noteColdWork(LABEL_SET_GARBAGE);
    const values = labelValues(request, ownNode());
    const set = resolveLabelSet(plan, values, operandTexts(plan, custom), limit);
    known = new Known(set, isContradictory(request));
    if (byKey.isFull) {
      countFault(Fault.KeysFull);
      byKey.clear();
    }
    byKey.add(KEY, size, known);
  }
  if (known.set.isOverflow) countFault(Fault.LabelSetsFull);
  if (known.isContradictory) countFault(Fault.PeerContradictsIdentity);
  return known.set;
}

/** What decides the labels besides the facts: the plan, and the texts that it puts into labels. */
function appendPlan(size: usize, plan: Plan, custom: Custom | null): usize {
  store<u32>(KEY + size, plan.serial);
  let at = KEY + size + 4;
  if (custom === null) return at - KEY;
  for (let i = 0; i < plan.operands.length; i++) {
    const operand = plan.operands[i];
    at = appendText(at, custom.operands.ptr(operand), custom.operands.size(operand));
  }
  return at - KEY;
}

function operandTexts(plan: Plan, custom: Custom | null): Map<i32, string> {
  const texts = new Map<i32, string>();
  if (custom === null) return texts;
  for (let i = 0; i < plan.operands.length; i++) texts.set(plan.operands[i], custom.operands.label(plan.operands[i]));
  return texts;
}

function countDefinitions(set: LabelSet, custom: Custom): void {
  const rows = set.plan.rows;
  for (let i = DEFINITION_ROWS; i < rows.length; i++) {
    const value = custom.number(i - DEFINITION_ROWS);
    if (rows[i].kind === MetricKind.Counter) increment(set.metrics[i], value);
    else record(set.metrics[i], value);
  }
}
