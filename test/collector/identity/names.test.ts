import { describe, expect, test } from "vitest";
import {
  DEFAULT_INSTANCE_RULE,
  DEFAULT_SERVICE_RULE,
  type ObjectName,
  parseNameRule,
  type Subject,
} from "../../../collector/identity/names.ts";

function object(name: string, namespace: string, labels: Record<string, string>): ObjectName {
  return { name, namespace, labels: new Map(Object.entries(labels)) };
}

const SUBJECT: Subject = {
  end: object("reviews-v1-x", "default", {
    app: "reviews",
    empty: "",
    dash: "-",
    "service.istio.io/canonical-name": "canonical",
  }),
  workload: "reviews-v1",
  canonicalService: "canonical",
  service: object("reviews", "default", { tier: "back" }),
  serviceEntry: null,
};

function render(template: string, subject = SUBJECT): string {
  const parsed = parseNameRule(template);
  if (!parsed.ok) throw new Error(JSON.stringify(parsed.fault));
  return parsed.rule.render(subject);
}

describe("a name rule", () => {
  test.each([
    [
      "reads a label whose key is in parentheses",
      "${pod.metadata.labels.(service.istio.io/canonical-name)}.${pod.metadata.namespace}",
      "canonical.default",
    ],
    ["reads a label whose key is in quotes", '${LABELS."service.istio.io/canonical-name"}', "canonical"],
    ["takes the first candidate that has a value", "${LABELS.none,LABELS.empty,LABELS.app,NAME}", "reviews"],
    ["takes no dash for a value", "${LABELS.dash,NAME}", "reviews-v1-x"],
    ["allows spaces around candidates", "${ LABELS.none , NAME }", "reviews-v1-x"],
    ["writes a dash for what is missing", "${LABELS.none}.${NAMESPACE}", "-.default"],
    ["writes a dash for an object that is not there", "${serviceEntry.metadata.name}", "-"],
    ["keeps text before, between and behind variables", "a ${NAME} b ${NAMESPACE} c", "a reviews-v1-x b default c"],
    ["keeps text alone", "fixed::name", "fixed::name"],
    ["keeps a $ and braces that begin no variable", "$5 {NAME} }", "$5 {NAME} }"],
    ["knows the service", "${service.metadata.name}/${service.metadata.labels.tier}", "reviews/back"],
    ["knows workload and canonical service", "${WORKLOAD_NAME} ${SERVICE}", "reviews-v1 canonical"],
    [
      "reads the words of node metadata in any case",
      "${name}.${Namespace}.${labels.app}",
      "reviews-v1-x.default.reviews",
    ],
    ["has a default for services", DEFAULT_SERVICE_RULE, "canonical.default"],
    ["has a default for instances", DEFAULT_INSTANCE_RULE, "reviews-v1-x.default"],
  ])("%s", (_rule, template, expected) => {
    expect(render(template)).toBe(expected);
  });

  test("is one for all that know the same: a pod by address, and a peer by its metadata", () => {
    const peer = { ...SUBJECT, service: null };
    expect(render(DEFAULT_SERVICE_RULE, peer)).toBe(render(DEFAULT_SERVICE_RULE));
  });
});

describe("a fault of a name rule says where it is, what was found and what was expected:", () => {
  test.each([
    ["", 1, "an empty text", /a template/],
    ["${}", 3, '"}"', /a name/],
    ["a${NAME", 8, "the end", /"}"/],
    ["${NAME NAMESPACE}", 8, '"N"', /"}", "," or "."/],
    ["${NAME,}", 8, '"}"', /a name/],
    ["${pod.}", 7, '"}"', /a name/],
    ["${pod.metadat.name}", 3, '"pod.metadat.name"', /pod\.metadata\.\{name, namespace, labels\.KEY\}/],
    ["${pod.metadata.uid}", 3, '"pod.metadata.uid"', /NAMESPACE/],
    ["x ${NOPE}", 5, '"NOPE"', /WORKLOAD_NAME/],
    ["${NAME.x}", 3, '"NAME.x"', /LABELS\.KEY/],
    ["${LABELS}", 3, '"LABELS"', /one key of a label/],
    [
      "${pod.metadata.labels.app.kubernetes.io/name}",
      3,
      '"pod.metadata.labels.app.kubernetes.io/name"',
      /labels\.\(app\.kubernetes\.io\/name\)/,
    ],
    ["${LABELS.(a}", 13, "the end", /"\)"/],
    ['${LABELS."a}', 13, "the end", /"\\""/],
    ["${LABELS.()}", 11, '")"', /a key/],
    ["${constructor}", 3, '"constructor"', /NAME/],
  ])("%s", (template, character, found, expected) => {
    const parsed = parseNameRule(template);
    expect(parsed).toMatchObject({ ok: false, fault: { character, found } });
    if (!parsed.ok) expect(parsed.fault.expected).toMatch(expected);
  });
});
