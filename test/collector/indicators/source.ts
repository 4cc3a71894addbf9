// The indicators of one thread as what /api/v1/indicators is answered from.

import { type Indicators, keptMinutes } from "../../../collector/indicators/indicators.ts";
import { readSubjects } from "../../../collector/indicators/reading.ts";
import type { IndicatorSource } from "../../../collector/web/indicators.ts";

export function sourceOf(indicators: Indicators, lateAfterMs = 120_000): IndicatorSource {
  return {
    subjects: async (query) => readSubjects(indicators.subjects, query),
    keptMinutes: keptMinutes(lateAfterMs),
  };
}
