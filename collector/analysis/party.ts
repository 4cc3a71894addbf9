// Party of a Subject: the one place where the name rules name an end, whichever analyzer found it.

import type { Analyzer } from "../identity/chain.ts";
import type { NameRules } from "../identity/lookup.ts";
import type { Subject } from "../identity/names.ts";
import type { Party } from "./side.ts";

/** A service has no instance, and one whose name is not known has none that could be named. */
export function partyOf(subject: Subject, rules: NameRules, analyzer: Analyzer): Party {
  const { end, workload, service } = subject;
  return Object.freeze({
    service: rules.service.render(subject),
    namespace: end.namespace || null,
    workload: workload || null,
    instance: end.name === "" || end === service ? null : rules.instance.render(subject),
    analyzer,
  });
}
