// What is used of snappyjs 0.7.0, which has no types of its own.

declare module "snappyjs" {
  const snappy: {
    /** Snappy's block format. Of a Buffer a Buffer. */
    compress(bytes: Buffer): Buffer;
    /** Throws when it is none, or would be longer than `maxLength`. */
    uncompress(bytes: Buffer, maxLength?: number): Buffer;
  };
  export default snappy;
}
