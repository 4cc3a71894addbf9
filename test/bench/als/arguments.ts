// The command line of bench:collector.

import { parseArgs } from "node:util";

export interface Arguments {
  readonly rounds: number;
  /** Of one slice. */
  readonly seconds: number;
  /** Part of the variants' names. */
  readonly only: RegExp;
  /** To compare with one thread; undefined for no comparison. */
  readonly threads: number | undefined;
  /** Label sets of the load. One is up to 67 series in Prometheus' sense: a counter, and three histograms. */
  readonly labelSets: number;
  readonly isProfiled: boolean;
  /** File for the results. */
  readonly json: string | undefined;
}

export const USAGE = `usage: bench:collector [-- options]
  --rounds N     how often each variant is measured (7)
  --seconds N    for how long each time (5)
  --only REGEX   part of the variants' names: "collector, derived", "64 streams", "Go"; "idle" for start and rest alone
  --threads N    compare N analysis threads on as many cores with one
  --label-sets N of all that is sent (10000); one is up to 67 series of Prometheus
  --profile      print where the collector's time goes; costs some of it
  --json FILE    write the results there too`;

/** Throws Error on what is not as in USAGE. */
export function readArguments(args: readonly string[]): Arguments {
  const text = { type: "string" } as const;
  const flags = {
    rounds: text,
    seconds: text,
    only: text,
    threads: text,
    "label-sets": text,
    json: text,
    profile: { type: "boolean" },
  } as const;
  const { values } = parseArgs({ args: [...args], options: flags });
  return {
    rounds: wholeNumber("rounds", values.rounds ?? "7"),
    seconds: wholeNumber("seconds", values.seconds ?? "5"),
    only: new RegExp(values.only ?? ""),
    threads: values.threads === undefined ? undefined : wholeNumber("threads", values.threads),
    labelSets: wholeNumber("label-sets", values["label-sets"] ?? "10000"),
    isProfiled: values.profile ?? false,
    json: values.json,
  };
}

function wholeNumber(flag: string, text: string): number {
  const number = Number(text);
  if (Number.isInteger(number) && number >= 1) return number;
  throw new Error(`--${flag} ${text}: expected a whole number from 1`);
}
