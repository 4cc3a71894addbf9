// The records of a saved state. A frame (frames.ts) has the number of the shard that wrote it, then records, in the order in which they
// happened to be written; what one says goes beyond what those before it said.
//
//   left         table, label set, total                            a label set that was just let go of: others may hold a part of it
//   series       table, number, label set, [base], total            every label set, before any record that names its number
//   natives      table, number, buckets                             right behind its series (natives.ts)
//   past         proxy, until, starts                               a proxy that was let go, or whose lives were
//   left open    proxy                                              a life went that told of connections which had not ended
//   proxy        proxy, lives, cells                                all at one moment
//   connections  life, connections                                  after the proxy's cells
//   ended        connection                                         last of all
//   gone         proxy, start, until                                a life that was let go while all this was written
//   base         table, number, row                                 what it leaves behind
//   shown        table, label set, total                            after all shards: what was shown, where that is more than they have
//   restored     table, label set, buckets                          natives of what no shard has: after all shards, and of what is left
//   natives      table, number, native buckets                      behind the series: of what the shard counted since it was restored
//   restored     table, label set, native buckets                   after all shards: of what was counted before
//   left         table, label set, row                              what shards let go of, as far as it is shown yet

export enum RecordKind {
  Series = 1,
  Past = 2,
  Proxy = 3,
  Connections = 4,
  Ended = 5,
  Gone = 6,
  Base = 7,
  Shown = 8,
  Natives = 9,
  RestoredNatives = 10,
  LeftOpen = 11,
  Left = 12,
}

/**
 * What is said of a life, by table: that it is to be closed (cell.ts); that its proxy has no mixed overflow (life.ts). A life of one that
 * has is to be closed, too, if anything of it is in the overflow: states from before the overflow kept reports apart do not say whose.
 */
export const IS_CLOSED = 1;
export const IS_UNMIXED = 2;

/** Which readings of a cell follow, and whether what it counts does, where that is its part of what several count together. */
export const HAS_STATS = 1;
export const HAS_LOG = 2;
export const HAS_OTLP_LOG = 4;
export const HAS_COUNTED = 8;
