// Subjects: whose calls are added up. A service, one of its instances, one of its endpoints, or an edge between two services.

import { Indicator } from "./indicator.ts";

export const SUBJECT_KINDS = ["service", "instance", "endpoint", "edge"] as const;
export type SubjectKind = (typeof SUBJECT_KINDS)[number];

/** Whose side of a call was measured: the caller's proxy's, or the called one's. */
export type DetectPoint = "client" | "server";

/** Stands for all subjects for which there was no room. */
const OTHER = "other";

export interface Subject {
  readonly kind: SubjectKind;
  /** Values of LABEL_NAMES. */
  readonly labels: readonly string[];
  /** Of a service, by whom its policy is found; null when it is not known, and for other kinds. */
  readonly namespace: string | null;
  readonly indicator: Indicator;
}

/** Labels of a subject; its metrics carry them. */
export const LABEL_NAMES: Readonly<Record<SubjectKind, readonly string[]>> = {
  service: ["service", "detect_point"],
  instance: ["service", "instance"],
  endpoint: ["service", "endpoint"],
  edge: ["source", "destination", "detect_point"],
};

export class Subjects {
  /** Times that a subject found no room, by kind. */
  readonly refused: Record<SubjectKind, number> = { service: 0, instance: 0, endpoint: 0, edge: 0 };
  private readonly byKind: Readonly<Record<SubjectKind, Map<string, Subject>>> = {
    service: new Map(),
    instance: new Map(),
    endpoint: new Map(),
    edge: new Map(),
  };

  /** Another number when there is room again since some found none: who was sent to `other` may have a place of its own now. */
  roomVersion = 0;
  private isCrowded = false;

  /** Those that stand for all for which there was no room, by kind: they take up none. */
  private readonly others: Readonly<Record<SubjectKind, Set<Subject>>> = {
    service: new Set(),
    instance: new Set(),
    endpoint: new Set(),
    edge: new Set(),
  };

  /** Endpoints by service. */
  private readonly endpoints = new Map<string, number>();

  /**
   * At most `limit` of each kind, and `endpointsPerService` endpoints of a service, besides those named `other`; each tells `keptSlots`
   * slots apart.
   */
  constructor(
    private readonly limit: number,
    private readonly endpointsPerService: number,
    private readonly keptSlots: number,
  ) {}

  service(service: string, point: DetectPoint, namespace: string | null = null): Subject {
    return this.find("service", [service, point], [OTHER, point], false, namespace);
  }

  instance(service: string, instance: string): Subject {
    return this.find("instance", [service, instance], [OTHER, OTHER]);
  }

  endpoint(service: string, endpoint: string): Subject {
    const isFull = (this.endpoints.get(service) ?? 0) >= this.endpointsPerService;
    return this.find("endpoint", [service, endpoint], isFull ? [service, OTHER] : [OTHER, OTHER], isFull);
  }

  edge(source: string, destination: string, point: DetectPoint): Subject {
    return this.find("edge", [source, destination, point], [OTHER, OTHER, point]);
  }

  all(kind: SubjectKind): Iterable<Subject> {
    return this.byKind[kind].values();
  }

  count(kind: SubjectKind): number {
    return this.byKind[kind].size;
  }

  has(kind: SubjectKind, labels: readonly string[]): boolean {
    return this.byKind[kind].has(keyOf(labels));
  }

  /** Lets go of subjects of which nothing was heard since that slot, and returns them. */
  retireBefore(slot: number): Subject[] {
    const retired: Subject[] = [];
    for (const kind of SUBJECT_KINDS) {
      for (const [key, subject] of this.byKind[kind]) {
        if (subject.indicator.latestSlot >= slot) continue;
        subject.indicator.isRetired = true;
        this.byKind[kind].delete(key);
        retired.push(subject);
        if (this.others[kind].delete(subject)) continue;
        if (kind === "endpoint") this.countEndpoint(subject.labels[0] as string, -1);
      }
    }
    if (retired.length > 0 && this.isCrowded) {
      this.isCrowded = false;
      this.roomVersion++;
    }
    return retired;
  }

  private find(
    kind: SubjectKind,
    labels: readonly string[],
    other: readonly string[],
    isFull = false,
    namespace: string | null = null,
  ): Subject {
    const subjects = this.byKind[kind];
    const known = subjects.get(keyOf(labels));
    if (known !== undefined) return known;
    if (!isFull && subjects.size - this.others[kind].size < this.limit) {
      if (kind === "endpoint") this.countEndpoint(labels[0] as string, 1);
      return this.create(kind, labels, namespace);
    }
    this.refused[kind]++;
    this.isCrowded = true;
    return subjects.get(keyOf(other)) ?? this.createOther(kind, other);
  }

  private createOther(kind: SubjectKind, labels: readonly string[]): Subject {
    const subject = this.create(kind, labels);
    this.others[kind].add(subject);
    return subject;
  }

  private create(kind: SubjectKind, labels: readonly string[], namespace: string | null = null): Subject {
    const subject = { kind, labels, namespace, indicator: new Indicator(this.keptSlots, kind === "service") };
    this.byKind[kind].set(keyOf(labels), subject);
    return subject;
  }

  private countEndpoint(service: string, change: number): void {
    const count = (this.endpoints.get(service) ?? 0) + change;
    if (count > 0) this.endpoints.set(service, count);
    else this.endpoints.delete(service);
  }
}

function keyOf(labels: readonly string[]): string {
  return JSON.stringify(labels);
}
