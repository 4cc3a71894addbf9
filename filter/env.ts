// proxy_log once more, for abort.ts. A function declared in a file of this name is imported from the module "env".

export declare function proxy_log(level: u32, message: usize, size: usize): u32;
