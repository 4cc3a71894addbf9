// `metadata_exchange`: with whom metadata is exchanged, what of it, and whose is believed.

import { Section } from "./reading.ts";
import { TcpExchangeConfig } from "./tcp-exchange.ts";

/** With which side of this proxy metadata is exchanged; bits, so that a gateway can have both. */
export const EXCHANGE_DOWNSTREAM = 1;
export const EXCHANGE_UPSTREAM = 2;
/** The role decides (role.ts). */
export const EXCHANGE_BY_ROLE = -1;

const SIDES: readonly string[] = ["downstream", "upstream"];

/** Whose metadata counts. */
export enum Trust {
  /** Everybody's. */
  Any,
  /** That of peers whose certificate this hop has seen. */
  MutualTls,
  /** The role decides (role.ts). */
  ByRole,
}

const TRUSTS: readonly string[] = ["any", "mutual_tls"];

const MAX_ADDITIONAL_LABELS = 64;

/** Istio's metadata has about 600 bytes, some KiB with many labels; Envoy's own limit is 60 KiB for all headers. */
const DEFAULT_MAX_HEADER_BYTES = 16384;
const MIN_MAX_HEADER_BYTES = 512;
/** Each of 16,384 streams may hold a peer of its own, which takes three times its header or less: 1.5 GiB, below what would trap. */
const MAX_MAX_HEADER_BYTES = 32768;

@final
export class ExchangeConfig {
  /** EXCHANGE_BY_ROLE, or the bits of the sides. */
  sides: i32 = EXCHANGE_BY_ROLE;
  skipExternalClusters: bool = true;
  trust: Trust = Trust.ByRole;
  /** Labels that are sent and kept besides those that have a meaning of their own. */
  additionalLabels: string[] = [];
  /** Longest metadata header that is sent or decoded. */
  maxHeaderBytes: i32 = DEFAULT_MAX_HEADER_BYTES;
  /** Our own metadata header under this configuration, made when first needed (node.ts); empty when it would be too long. */
  ownMetadata: ArrayBuffer | null = null;
  readonly tcp: TcpExchangeConfig = new TcpExchangeConfig();

  read(section: Section): void {
    this.readSides(section);
    this.skipExternalClusters = section.bool("skip_external_clusters", true);
    this.trust = section.choice("trust", TRUSTS, Trust.ByRole);
    this.readAdditionalLabels(section);
    this.maxHeaderBytes = section.whole(
      "max_header_bytes",
      DEFAULT_MAX_HEADER_BYTES,
      MIN_MAX_HEADER_BYTES,
      MAX_MAX_HEADER_BYTES,
    );
    this.tcp.read(section.section("tcp"));
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

  private readAdditionalLabels(section: Section): void {
    const names = section.texts("additional_labels");
    if (names === null) return;
    if (names.length <= MAX_ADDITIONAL_LABELS) this.additionalLabels = names;
    else {
      const expected = `at most ${MAX_ADDITIONAL_LABELS} names`;
      section.complain("additional_labels", expected, section.field("additional_labels")!);
    }
  }
}
