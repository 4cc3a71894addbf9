// LabelSets: which label sets a table holds, and the number of each, which is its own for as long as it is held, and then another's.

import { withoutMark } from "./key.ts";
import type { LabelSet } from "./reader.ts";

export class LabelSets<Each extends LabelSet> {
  private held: Each[] = [];
  private gone = 0;
  private readonly byKey = new Map<string, Each>();
  private readonly freeIndexes: number[] = [];

  /** In the order of first sight. One list, which grows, until some are let go of; then another. */
  get list(): readonly Each[] {
    return this.held;
  }

  /** How many were let go of so far. */
  get letGoCount(): number {
    return this.gone;
  }

  find(labelKey: string): Each | undefined {
    return this.byKey.get(labelKey);
  }

  add(make: (index: number) => Each): Each {
    const labelSet = make(this.freeIndexes.pop() ?? this.held.length);
    this.byKey.set(labelSet.labelKey, labelSet);
    this.held.push(labelSet);
    return labelSet;
  }

  /**
   * Lets go of those that are over. Those that differ in their mark alone are shown as one (visible.ts), and go together: else a sum that
   * is shown again later would have gone down.
   */
  letGo(isOver: (labelSet: Each) => boolean): readonly Each[] {
    const over = new Set(this.held.filter(isOver));
    if (over.size === 0) return []; // fast: mostly
    const staying = this.held.filter((labelSet) => !over.has(labelSet));
    const shown = new Set(staying.map(({ labelKey }) => withoutMark(labelKey)));
    const gone = [...over].filter(({ labelKey }) => !shown.has(withoutMark(labelKey)));
    for (const { labelKey, index } of gone) {
      this.byKey.delete(labelKey);
      this.freeIndexes.push(index);
    }
    this.held = gone.length === over.size ? staying : this.held.filter(({ labelKey }) => this.byKey.has(labelKey));
    this.gone += gone.length;
    return gone;
  }
}

/** Whose the numbers are that one who keeps something by them has seen. */
export class Owners {
  private readonly byIndex: LabelSet[] = [];

  /** Whether the number was another's when this was asked last, or nobody's. */
  isNew(labelSet: LabelSet): boolean {
    if (this.byIndex[labelSet.index] === labelSet) return false;
    this.byIndex[labelSet.index] = labelSet;
    return true;
  }
}
