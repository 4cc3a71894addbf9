// `metadata_exchange`: with whom metadata is exchanged, and what of it.

import { Section } from "./reading.ts";

/** With which side of this proxy metadata is exchanged; bits, so that a gateway can have both. */
export const EXCHANGE_DOWNSTREAM = 1;
export const EXCHANGE_UPSTREAM = 2;
/** The role decides (role.ts). */
export const EXCHANGE_BY_ROLE = -1;

const SIDES: readonly string[] = ["downstream", "upstream"];

@final
export class ExchangeConfig {
  /** EXCHANGE_BY_ROLE, or the bits of the sides. */
  sides: i32 = EXCHANGE_BY_ROLE;
  skipExternalClusters: bool = true;

  read(section: Section): void {
    this.readSides(section);
    this.skipExternalClusters = section.bool("skip_external_clusters", true);
  }

  /** `["downstream"]`, `["upstream"]`, both, or `[]` for no exchange at all. */
  private readSides(section: Section): void {
    const words = section.texts("directions");
    if (words === null) return;
    let sides = 0;
    for (let i = 0; i < words.length; i++) {
      const side = SIDES.indexOf(words[i]);
      if (side < 0) {
        section.complain("directions", "a list of downstream and upstream", section.field("directions")!.items[i]);
        return;
      }
      sides |= 1 << side;
    }
    this.sides = sides;
  }
}
