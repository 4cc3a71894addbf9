// Results of host calls, with the numbers of the proxy-wasm ABI.

export const STATUS = {
  ok: 0,
  notFound: 1,
  badArgument: 2,
  serializationFailure: 3,
  internalFailure: 10,
  unimplemented: 12,
} as const;
