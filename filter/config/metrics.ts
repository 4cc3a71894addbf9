// `metrics`, `definitions` and `classification`: how the standard metrics are changed and what is counted besides. What is read here is
// text; custom/ compiles it. Semantics: Istio's stats filter, its PluginConfig; `classification` is Istio's attributegen.

import { METRIC_PREFIX, MetricKind } from "../vocabulary/metrics.ts";
import { JsonKind, JsonValue } from "../wire/json.ts";
import { complain, Section } from "./reading.ts";

const MAX_RULES = 256;
const MAX_DEFINITIONS = 32;
const MAX_DIMENSIONS = 32;
const MAX_CLASSIFIERS = 16;
const MAX_CONDITIONS = 64;

const KINDS: readonly string[] = ["COUNTER", "GAUGE", "HISTOGRAM"];

/** A label and the expression that gives its value. */
export class Dimension {
  constructor(
    readonly path: string,
    readonly label: string,
    readonly source: string,
  ) {}
}

/** An entry of `metrics`: how one metric, or all, differ from the standard. */
export class MetricRule {
  dimensions: Dimension[] = [];

  constructor(
    readonly path: string,
    /** Without "istio_"; "" for all metrics. */
    readonly name: string,
    readonly isDropped: bool,
    readonly removed: string[],
    /** Condition under which the entry applies to a request; "" for always. */
    readonly match: string,
  ) {}
}

/** An entry of `definitions`: a metric of the user's own. */
export class Definition {
  constructor(
    readonly path: string,
    /** Without "istio_". */
    readonly name: string,
    readonly source: string,
    readonly kind: MetricKind,
  ) {}
}

/** An attribute and the conditions of which the first that holds gives its value. */
export class Classifier {
  conditions: string[] = [];
  values: string[] = [];

  constructor(
    readonly path: string,
    readonly attribute: string,
  ) {}
}

@final
export class MetricsConfig {
  rules: MetricRule[] = [];
  definitions: Definition[] = [];
  classifiers: Classifier[] = [];

  get isStandard(): bool {
    return this.rules.length === 0 && this.definitions.length === 0 && this.classifiers.length === 0;
  }

  read(root: Section): void {
    const metrics = bounded(root.sections("metrics"), MAX_RULES);
    for (let i = 0; i < metrics.length; i++) {
      const rule = readRule(metrics[i]);
      // An entry whose name or condition is no text never applies: for what it was meant nobody knows.
      if (isText(metrics[i], "match") && isText(metrics[i], "name")) this.rules.push(rule);
    }
    const definitions = bounded(root.sections("definitions"), MAX_DEFINITIONS);
    for (let i = 0; i < definitions.length; i++) this.readDefinition(definitions[i]);
    const attributes = bounded(root.section("classification").sections("attributes"), MAX_CLASSIFIERS);
    for (let i = 0; i < attributes.length; i++) this.readClassifier(attributes[i]);
  }

  private readDefinition(section: Section): void {
    const name = readName(section, "name");
    const source = section.text("value", "");
    const kind = section.choice("type", KINDS, MetricKind.Counter);
    if (source.length === 0) complain(section.path + "value: expected an expression; it is left out");
    else if (name.length > 0) this.definitions.push(new Definition(section.path, name, source, kind));
  }

  private readClassifier(section: Section): void {
    const classifier = new Classifier(section.path, readName(section, "output_attribute"));
    section.ignore(["phase"]); // Istio's attributegen; here all is decided at the end
    const matches = bounded(section.sections("match"), MAX_CONDITIONS);
    for (let i = 0; i < matches.length; i++) {
      const value = matches[i].text("value", "");
      if (!isText(matches[i], "condition")) continue;
      classifier.conditions.push(textOf(matches[i].field("condition")));
      classifier.values.push(value);
    }
    if (classifier.attribute.length > 0) this.classifiers.push(classifier);
  }
}

/** A name of letters, digits and _; "", and complained about, when it is none. */
function readName(section: Section, key: string): string {
  const name = section.text(key, "");
  if (isName(name)) return name;
  complain(`${section.path}${key}: expected letters, digits and _, found "${name.substring(0, 100)}"; it is left out`);
  return "";
}

/** Whether the field is a text, or absent; complained about when not. */
function isText(section: Section, key: string): bool {
  const value = section.field(key);
  if (value === null || value.kind === JsonKind.Text) return true;
  section.complain(key, "a string", value);
  return false;
}

function textOf(value: JsonValue | null): string {
  return value === null || value.kind !== JsonKind.Text ? "" : value.text;
}

function readRule(section: Section): MetricRule {
  const removed = section.texts("tags_to_remove");
  const name = textOf(section.field("name"));
  const rule = new MetricRule(
    section.path,
    name.startsWith(METRIC_PREFIX) ? name.substring(METRIC_PREFIX.length) : name,
    section.bool("drop", false),
    removed === null ? [] : removed,
    textOf(section.field("match")),
  );
  readDimensions(section, rule);
  return rule;
}

/** In the order of their labels, as Istio takes them. */
function readDimensions(section: Section, rule: MetricRule): void {
  const dimensions = section.field("dimensions");
  if (dimensions === null) return;
  if (dimensions.kind !== JsonKind.Object) {
    section.complain("dimensions", "an object of expressions by label", dimensions);
    return;
  }
  if (dimensions.keys.length > MAX_DIMENSIONS) {
    complain(
      section.path +
        `dimensions: expected ${MAX_DIMENSIONS} at most, found ${dimensions.keys.length}; all are left out`,
    );
    return;
  }
  const labels = dimensions.keys.slice(0).sort();
  for (let i = 0; i < labels.length; i++) {
    const label = labels[i];
    const source = dimensions.member(label)!;
    const path = section.path + "dimensions." + label;
    if (!isName(label)) complain(path + ": expected a label of letters, digits and _; it is left out");
    else if (source.kind !== JsonKind.Text)
      section.complain("dimensions." + label, "an expression in a string", source);
    else rule.dimensions.push(new Dimension(path, label, source.text));
  }
}

function bounded(sections: Section[], most: i32): Section[] {
  if (sections.length <= most) return sections;
  const first = sections[most].path.slice(0, -1);
  complain(first + `: expected ${most} entries at most, found ${sections.length}; it and the rest are left out`);
  for (let i = most; i < sections.length; i++) sections[i].leaveOut();
  return sections.slice(0, most);
}

/** Whether it can be a Prometheus label or the end of a metric's name. */
function isName(text: string): bool {
  if (text.length === 0 || text.length > 100) return false;
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    const isLetter = (code | 0x20) >= 0x61 && (code | 0x20) <= 0x7a;
    const isDigit = code >= 0x30 && code <= 0x39;
    if (!isLetter && code !== 0x5f && !(isDigit && i > 0)) return false;
  }
  return true;
}
