// Imports from the module "env" that the SDK does not declare, or that abort.ts must have without it. A function declared in a file of this
// name is imported from the module "env".

export declare function proxy_log(level: u32, message: usize, size: usize): u32;

/** The SDK has it under a wrong name. */
export declare function proxy_set_buffer_bytes(buffer: u32, start: u32, length: u32, ptr: usize, size: usize): u32;
