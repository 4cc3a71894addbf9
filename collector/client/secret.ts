// Secrets: what goes into headers and must go nowhere else.

import { readFile } from "node:fs/promises";
import { inspect } from "node:util";

const HIDDEN = "***";

/** A value given in the configuration or the environment, or the file that holds it, which is read whenever it is needed: it may be replaced. */
export class Secret {
  readonly #value: string | null;

  private constructor(
    value: string | null,
    /** Null when the value is known. */
    readonly file: string | null,
  ) {
    this.#value = value;
  }

  static of(value: string): Secret {
    return new Secret(value, null);
  }

  static inFile(path: string): Secret {
    return new Secret(null, path);
  }

  /** Rejects, naming the file, when it cannot be read. */
  async read(): Promise<string> {
    return this.#value ?? (await readFile(this.file as string, "utf8")).trim();
  }

  toString(): string {
    return HIDDEN;
  }

  toJSON(): string {
    return HIDDEN;
  }

  [inspect.custom](): string {
    return HIDDEN;
  }
}

/** Who we say we are to a receiver. */
export interface Access {
  readonly headers: readonly { readonly name: string; readonly value: Secret }[];
  readonly basic: { readonly username: string; readonly password: Secret } | null;
  /** A token. */
  readonly bearer: Secret | null;
}

/** Headers as they are sent, and what must not be shown of them. Rejects when a file cannot be read. */
export async function readAccess({ headers, basic, bearer }: Access): Promise<{
  readonly headers: Record<string, string>;
  readonly hide: (text: string) => string;
}> {
  const read: Record<string, string> = {};
  const secrets: string[] = [];
  for (const { name, value } of headers) {
    read[name.toLowerCase()] = await value.read();
    secrets.push(read[name.toLowerCase()] as string);
  }
  if (basic !== null) {
    const password = await basic.password.read();
    const encoded = Buffer.from(`${basic.username}:${password}`).toString("base64");
    read["authorization"] = `Basic ${encoded}`;
    secrets.push(password, encoded);
  }
  if (bearer !== null) {
    const token = await bearer.read();
    read["authorization"] = `Bearer ${token}`;
    secrets.push(token);
  }
  const shown = secrets.filter((secret) => secret !== "");
  return { headers: read, hide: (text) => shown.reduce((rest, secret) => rest.replaceAll(secret, HIDDEN), text) };
}
