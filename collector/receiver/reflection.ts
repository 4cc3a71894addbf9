// What the gRPC port serves, as grpc.reflection.v1.ServerReflection tells it to tools such as grpcurl: names of services, and the
// descriptors of their messages. No transport here. v1alpha has the same messages.
// https://github.com/grpc/grpc/blob/master/doc/server-reflection.md
//
//   ServerReflectionRequest { string host = 1; oneof { string file_by_filename = 3, file_containing_symbol = 4;
//     ExtensionRequest file_containing_extension = 5; string all_extension_numbers_of_type = 6, list_services = 7 } }
//   ServerReflectionResponse { string valid_host = 1; ServerReflectionRequest original_request = 2; oneof {
//     FileDescriptorResponse file_descriptor_response = 4 { repeated bytes file_descriptor_proto = 1 };
//     ExtensionNumberResponse all_extension_numbers_response = 5 { string base_type_name = 1; repeated int32 extension_number = 2 };
//     ListServiceResponse list_services_response = 6 { repeated ServiceResponse service = 1 { string name = 1 } };
//     ErrorResponse error_response = 7 { int32 error_code = 1; string error_message = 2 } } }

import { quote } from "../error.ts";
import { bytesTag, WireReader } from "../proto/wire.ts";
import { DESCRIPTORS } from "./descriptors.ts";

export const REFLECTION_SERVICES = ["grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection"];
/** It goes back with the answer. */
export const MAX_REQUEST_BYTES = 4096;

const INVALID_ARGUMENT = 3;
const NOT_FOUND = 5;

const REQUEST = {
  host: bytesTag(1),
  file: bytesTag(3),
  symbol: bytesTag(4),
  extension: bytesTag(5),
  extensionNumbers: bytesTag(6),
  services: bytesTag(7),
};

/** FileDescriptorProto, and below it DescriptorProto, ServiceDescriptorProto and so on, of which `name` is 1 throughout. */
const NAME = bytesTag(1);
const FILE = { package: bytesTag(2), dependency: bytesTag(3) };
/** By the kind of what contains it: the fields that hold something with a name of its own, and its kind. */
const CHILDREN: Readonly<Record<Kind, readonly (readonly [tag: number, kind: Kind])[]>> = {
  file: [
    [bytesTag(4), "message"],
    [bytesTag(5), "enum"],
    [bytesTag(6), "service"],
  ],
  message: [
    [bytesTag(2), "leaf"],
    [bytesTag(3), "message"],
    [bytesTag(4), "enum"],
  ],
  enum: [],
  service: [[bytesTag(2), "leaf"]],
  leaf: [],
};
type Kind = "file" | "message" | "enum" | "service" | "leaf";

interface File {
  readonly bytes: Buffer;
  readonly dependencies: readonly string[];
}

export class Reflection {
  private readonly services = new Set(REFLECTION_SERVICES);
  /** Null until somebody asks. */
  private index: Index | null = null;

  add(service: string): void {
    this.services.add(service);
  }

  /** The response to a request. */
  answer(request: Buffer): Buffer {
    const reader = new WireReader();
    let host = "";
    let answer = encodeError(INVALID_ARGUMENT, "expected one of the requests of ServerReflectionRequest");
    reader.open(request, 0, request.length);
    while (reader.next()) {
      if (reader.tag === REQUEST.host) host = reader.text();
      else answer = this.answerTo(reader) ?? answer; // of several the last counts, as in any oneof
    }
    // What cannot be read must not go back: it would make the response one that cannot be read.
    if (reader.isMalformed) return encodeError(INVALID_ARGUMENT, "expected a ServerReflectionRequest");
    return Buffer.concat([encodeField(1, Buffer.from(host)), encodeField(2, request), answer]);
  }

  /** Null for a field that is none of the requests. */
  private answerTo(reader: WireReader): Buffer | null {
    switch (reader.tag) {
      case REQUEST.file:
        return this.fileNamed(reader.text());
      case REQUEST.symbol:
        return this.fileOf(reader.text());
      case REQUEST.extension:
        return encodeError(NOT_FOUND, "nothing that is served has extensions");
      case REQUEST.extensionNumbers:
        return this.extensionsOf(reader.text());
      case REQUEST.services:
        return this.listServices();
      default:
        return null;
    }
  }

  private listServices(): Buffer {
    const names = [...this.services].sort();
    return encodeField(6, Buffer.concat(names.map((name) => encodeField(1, encodeField(1, Buffer.from(name))))));
  }

  private fileNamed(name: string): Buffer {
    const files = this.readIndex().withDependencies(name);
    return files.length > 0 ? encodeFiles(files) : encodeError(NOT_FOUND, `no file ${quote(name)}`);
  }

  private fileOf(symbol: string): Buffer {
    const name = this.readIndex().fileBySymbol.get(symbol);
    return name === undefined ? encodeError(NOT_FOUND, `no symbol ${quote(symbol)}`) : this.fileNamed(name);
  }

  private extensionsOf(type: string): Buffer {
    if (!this.readIndex().messages.has(type)) return encodeError(NOT_FOUND, `no message ${quote(type)}`);
    return encodeField(5, encodeField(1, Buffer.from(type))); // proto3: there are none
  }

  private readIndex(): Index {
    this.index ??= new Index(DESCRIPTORS.map((text) => Buffer.from(text, "base64")));
    return this.index;
  }
}

/** Which file has what. */
class Index {
  readonly fileBySymbol = new Map<string, string>();
  readonly messages = new Set<string>();
  private readonly files = new Map<string, File>();

  constructor(descriptors: readonly Buffer[]) {
    for (const bytes of descriptors) {
      const [name = ""] = texts(bytes, NAME);
      const [scope = ""] = texts(bytes, FILE.package);
      this.files.set(name, { bytes, dependencies: texts(bytes, FILE.dependency) });
      this.addChildren(bytes, "file", scope, name);
    }
  }

  /** The file, and behind it those that it needs; none when it does not exist. */
  withDependencies(name: string): Buffer[] {
    const found = new Map<string, Buffer>();
    const take = (each: string) => {
      const file = this.files.get(each);
      if (file === undefined || found.has(each)) return;
      found.set(each, file.bytes);
      file.dependencies.forEach(take);
    };
    take(name);
    return [...found.values()];
  }

  private addChildren(bytes: Buffer, kind: Kind, scope: string, file: string): void {
    for (const [tag, childKind] of CHILDREN[kind]) {
      for (const child of values(bytes, tag)) {
        const symbol = `${scope}.${texts(child, NAME)[0]}`;
        this.fileBySymbol.set(symbol, file);
        if (childKind === "message") this.messages.add(symbol);
        this.addChildren(child, childKind, symbol, file);
      }
    }
  }
}

/** Of all fields with that tag. */
function values(bytes: Buffer, tag: number): Buffer[] {
  const reader = new WireReader();
  const found: Buffer[] = [];
  reader.open(bytes, 0, bytes.length);
  while (reader.next()) {
    if (reader.tag === tag) found.push(bytes.subarray(reader.start, reader.stop));
  }
  return found;
}

function texts(bytes: Buffer, tag: number): string[] {
  return values(bytes, tag).map((value) => value.toString());
}

function encodeFiles(files: readonly Buffer[]): Buffer {
  return encodeField(4, Buffer.concat(files.map((bytes) => encodeField(1, bytes))));
}

function encodeError(code: number, message: string): Buffer {
  return encodeField(7, Buffer.concat([Buffer.from([0x08, code]), encodeField(2, Buffer.from(message))]));
}

/** A string, bytes or message field; fields here have numbers below 16. */
function encodeField(number: number, value: Buffer): Buffer {
  const head = [bytesTag(number)];
  let rest = value.length;
  for (; rest >= 0x80; rest >>>= 7) head.push((rest & 0x7f) | 0x80);
  return Buffer.concat([Buffer.from([...head, rest]), value]);
}
