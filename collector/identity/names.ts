// Name rules: templates that name a service or an instance, `${pod.metadata.labels.app,SERVICE}.${NAMESPACE}`.
//
//   template   text and variables in any order; text stays where it stands
//   variable   ${ path , path ... }   the first that has a value; `-` when none has
//   path       parts joined by dots; a part that holds dots is quoted: (service.istio.io/canonical-name) or "app.kubernetes.io/name"
//
// Both spellings that users of SkyWalking know read the same facts: `pod.metadata.name` and `NAME`.

/** An object's name, namespace and labels. */
export interface ObjectName {
  readonly name: string;
  readonly namespace: string;
  readonly labels: ReadonlyMap<string, string>;
}

/** What is named, from whichever source; "" and null for what is not known. */
export interface Subject {
  /** The end of the call itself: a pod, or what stands for one. */
  readonly end: ObjectName;
  readonly workload: string;
  readonly canonicalService: string;
  readonly service: ObjectName | null;
  readonly serviceEntry: ObjectName | null;
}

/** A value of a subject; "" for none. */
type Variable = (subject: Subject) => string;

export const DEFAULT_SERVICE_RULE =
  '${LABELS."service.istio.io/canonical-name",LABELS."app.kubernetes.io/name",LABELS.app,SERVICE}.${NAMESPACE}';
export const DEFAULT_INSTANCE_RULE = "${pod.metadata.name}.${pod.metadata.namespace}";

const MISSING = "-";

export class NameRule {
  /** Texts, and lists of candidates. */
  constructor(private readonly parts: readonly (string | readonly Variable[])[]) {}

  render(subject: Subject): string {
    let name = "";
    for (const part of this.parts) name += typeof part === "string" ? part : firstValue(part, subject);
    return name;
  }
}

function firstValue(candidates: readonly Variable[], subject: Subject): string {
  for (const candidate of candidates) {
    const value = candidate(subject);
    if (value !== "" && value !== MISSING) return value;
  }
  return MISSING;
}

/** What is wrong with a template: `at character 7: found "}", expected ...`. */
interface NameFault {
  /** From 1. */
  readonly character: number;
  readonly found: string;
  readonly expected: string;
}

export type ParsedRule =
  | { readonly ok: true; readonly rule: NameRule }
  | { readonly ok: false; readonly fault: NameFault };

export function parseNameRule(text: string): ParsedRule {
  const parser = new Parser(text);
  const parts = parser.read();
  if (parser.fault !== null) return { ok: false, fault: parser.fault };
  return { ok: true, rule: new NameRule(parts) };
}

/** The rule of a template that was checked before. */
export function nameRule(text: string): NameRule {
  const parsed = parseNameRule(text);
  if (!parsed.ok) throw new Error(`a name rule that was not checked: ${text}`);
  return parsed.rule;
}

const BARE = /[A-Za-z0-9_/-]/;
const QUOTES: Readonly<Record<string, string>> = { "(": ")", '"': '"' };

/** Reads a template from left to right; ends at the first fault. */
class Parser {
  fault: NameFault | null = null;
  private at = 0;

  constructor(private readonly text: string) {}

  read(): (string | readonly Variable[])[] {
    const parts: (string | readonly Variable[])[] = [];
    if (this.text === "") this.fail(0, "an empty text", 'a template such as "${SERVICE}.${NAMESPACE}"');
    while (this.at < this.text.length && this.fault === null) {
      const start = this.text.indexOf("${", this.at);
      const end = start < 0 ? this.text.length : start;
      if (end > this.at) parts.push(this.text.substring(this.at, end));
      this.at = end;
      if (start >= 0) parts.push(this.readCandidates());
    }
    return parts;
  }

  private readCandidates(): Variable[] {
    const candidates: Variable[] = [];
    this.at += 2;
    do {
      this.skipSpaces();
      const start = this.at;
      const path = this.readPath();
      if (this.fault !== null) return [];
      candidates.push(this.variableOf(path, start));
      this.skipSpaces();
    } while (this.accept(","));
    if (this.fault === null && !this.accept("}")) this.fail(this.at, this.next(), '"}", "," or "."');
    return candidates;
  }

  private readPath(): string[] {
    const path = [];
    do path.push(this.readPart());
    while (this.fault === null && this.accept("."));
    return path;
  }

  private readPart(): string {
    const closing = QUOTES[this.text[this.at] ?? ""];
    const start = this.at;
    if (closing === undefined) {
      while (BARE.test(this.text[this.at] ?? "")) this.at++;
      if (this.at === start) this.fail(start, this.next(), "a name");
      return this.text.substring(start, this.at);
    }
    const end = this.text.indexOf(closing, start + 1);
    if (end < 0) this.fail(this.text.length, "the end", JSON.stringify(closing));
    else if (end === start + 1) this.fail(end, JSON.stringify(closing), "a key");
    this.at = end + 1;
    return this.text.substring(start + 1, end);
  }

  private variableOf(path: readonly string[], start: number): Variable {
    const [root = "", ...rest] = path;
    const object = OBJECTS[root];
    const short = SHORT[root.toUpperCase()];
    if (object !== undefined && rest[0] === "metadata") return this.fieldOf(object, rest.slice(1), start, path);
    if (root.toUpperCase() === LABELS) return this.labelOf((subject) => subject.end, rest, start, path);
    if (object === undefined && short !== undefined && rest.length === 0) return short;
    return this.unknown(path, start, KNOWN);
  }

  /** `name`, `namespace`, `labels.KEY` behind `pod.metadata`. */
  private fieldOf(
    object: ObjectOf,
    [field = "", ...rest]: readonly string[],
    start: number,
    path: readonly string[],
  ): Variable {
    if (field === "labels") return this.labelOf(object, rest, start, path);
    if (rest.length > 0 || (field !== "name" && field !== "namespace")) return this.unknown(path, start, KNOWN);
    return (subject) => object(subject)?.[field] ?? "";
  }

  private labelOf(object: ObjectOf, keys: readonly string[], start: number, path: readonly string[]): Variable {
    const [key = ""] = keys;
    if (keys.length !== 1)
      return this.unknown(path, start, "one key of a label, with dots as in labels.(app.kubernetes.io/name)");
    return (subject) => object(subject)?.labels.get(key) ?? "";
  }

  private unknown(path: readonly string[], start: number, expected: string): Variable {
    this.fail(start, JSON.stringify(path.join(".")), expected);
    return () => "";
  }

  private skipSpaces(): void {
    while (this.text[this.at] === " ") this.at++;
  }

  private accept(character: string): boolean {
    if (this.fault !== null || this.text[this.at] !== character) return false;
    this.at++;
    return true;
  }

  private next(): string {
    const character = this.text[this.at];
    return character === undefined ? "the end" : JSON.stringify(character);
  }

  private fail(at: number, found: string, expected: string): void {
    this.fault ??= { character: at + 1, found, expected };
  }
}

type ObjectOf = (subject: Subject) => ObjectName | null;

const OBJECTS: Readonly<Record<string, ObjectOf>> = {
  pod: (subject) => subject.end,
  service: (subject) => subject.service,
  serviceEntry: (subject) => subject.serviceEntry,
};

const LABELS = "LABELS";

/** In the words of node metadata, in any case. */
const SHORT: Readonly<Record<string, Variable>> = {
  NAME: (subject) => subject.end.name,
  NAMESPACE: (subject) => subject.end.namespace,
  WORKLOAD_NAME: (subject) => subject.workload,
  SERVICE: (subject) => subject.canonicalService,
};

const KNOWN = [
  ...Object.keys(OBJECTS).map((object) => `${object}.metadata.{name, namespace, labels.KEY}`),
  ...Object.keys(SHORT),
  `${LABELS}.KEY`,
].join(", ");
