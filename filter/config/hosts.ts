// `host_normalization`: how the authority becomes the name of a service.

import { HostRules } from "../hosts.ts";
import { JsonKind } from "../wire/json.ts";
import { Section } from "./reading.ts";

const MAX_PATTERNS = 1000;

/** null when the section is absent: the authority names the service as it is. */
export function readHostRules(section: Section): HostRules | null {
  if (!section.isThere) return null;
  const rules = new HostRules();
  rules.stripPort = section.bool("strip_port", true);
  readAllow(section, rules);
  return rules;
}

/** A pattern that is none is left out, the others hold; so are those beyond the most. */
function readAllow(section: Section, rules: HostRules): void {
  const list = section.field("allow");
  if (list === null) return;
  if (list.kind !== JsonKind.List) {
    section.complain("allow", "a list of hosts", list);
    return;
  }
  rules.hasList = true;
  const patterns = list.items;
  if (patterns.length > MAX_PATTERNS) section.complain("allow", `${MAX_PATTERNS} hosts at most`, list);
  for (let i = 0; i < min(patterns.length, MAX_PATTERNS); i++) {
    const pattern = patterns[i];
    const isTaken = pattern.kind === JsonKind.Text && rules.allow(pattern.text);
    if (!isTaken) section.complain(`allow[${i}]`, "a host or *.suffix without a port", pattern);
  }
}
