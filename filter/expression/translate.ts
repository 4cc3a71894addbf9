// CEL as Istio's users write it -> CEL that stock Envoy evaluates. Istio's proxies know more roots, and the peer under another name.

import {
  DOWNSTREAM_PEER,
  DOWNSTREAM_PEER_STRUCT,
  PEER_CLUSTER,
  PEER_LABELS,
  PEER_WORKLOAD,
  UPSTREAM_PEER,
  UPSTREAM_PEER_STRUCT,
  WASM_STATE_PREFIX,
} from "../vocabulary/peer-metadata.ts";
import { TokenKind, Tokens } from "./tokens.ts";

/** Roots that Istio's old filters gave; stock Envoy has them as members of `xds`. */
const XDS_MEMBERS: readonly string[] = [
  "node",
  "cluster_name",
  "cluster_metadata",
  "route_name",
  "route_metadata",
  "virtual_host_name",
  "virtual_host_metadata",
  "listener_direction",
  "listener_metadata",
  "filter_chain_name",
  "upstream_host_metadata",
];

/** What other wasm filters leave for expressions, as Istio's request classification: `istio_operationId`. */
const ISTIO_STATE_PREFIX = "istio_";

const FILTER_STATE = "filter_state";

/** Macros whose first argument names a variable: `list.exists(node, node == 'x')`. */
const MACROS: readonly string[] = ["all", "exists", "exists_one", "map", "filter"];

export class Translation {
  constructor(
    readonly source: string,
    /** The peer's Struct must be set before it is evaluated (peer-state.ts). */
    readonly needsPeers: bool,
  ) {}
}

/**
 * `filter_state.upstream_peer.workload == node.id` -> `filter_state['wasm.meshtally.upstream_peer'].workload == xds.node.id`.
 * Total: a broken source gives a broken one, which Envoy refuses. Comments and white space become one space.
 */
export function translate(source: string): Translation {
  const translator = new Translator(new Tokens(source));
  return new Translation(translator.run(), translator.needsPeers);
}

class Translator {
  needsPeers: bool = false;
  private readonly out: string[] = [];
  /** The next token. */
  private at: i32 = 0;
  /** Variables of macros: no roots, wherever they stand. */
  private readonly variables: string[] = [];

  constructor(private readonly tokens: Tokens) {
    for (let i = 0; i < tokens.count; i++) {
      const isVariable = tokens.isSymbol(i - 1, "(") && tokens.isKind(i, TokenKind.Name) && tokens.isSymbol(i + 1, ",");
      if (isVariable && tokens.isSymbol(i - 3, ".") && MACROS.includes(tokens.text(i - 2))) {
        this.variables.push(tokens.text(i));
      }
    }
  }

  run(): string {
    while (this.at < this.tokens.count) {
      if (this.tokens.isApart(this.at)) this.out.push(" ");
      if (!this.takePeer() && !this.takePresence() && !this.takeRoot()) this.copy();
    }
    return this.out.join("");
  }

  private copy(): void {
    this.out.push(this.tokens.text(this.at++));
  }

  /** `upstream_peer` or `filter_state.upstream_peer`, and the old names of what is selected of it. */
  private takePeer(): bool {
    const state = this.peerAt(this.at);
    if (state.length === 0) return false;
    this.at += this.peerLength(this.at);
    this.out.push(FILTER_STATE + "['" + state + "']");
    this.needsPeers = true;
    const field = this.at + 1;
    if (!this.tokens.isSymbol(this.at, ".") || !this.tokens.isKind(field, TokenKind.Name)) return true;
    const name = this.tokens.text(field);
    this.at += 2;
    this.out.push("." + currentName(name));
    if (name === PEER_LABELS) this.takeLabel();
    return true;
  }

  /** `['app'].value` -> `['app']`: the FlatBuffer's labels were objects. */
  private takeLabel(): void {
    const length = this.selectLength(this.at);
    if (length === 0) return;
    for (let i = 0; i < length; i++) this.copy();
    if (this.tokens.isSymbol(this.at, ".") && this.tokens.isName(this.at + 1, "value")) this.at += 2;
  }

  /** `has(filter_state.upstream_peer)` and `'upstream_peer' in filter_state`. */
  private takePresence(): bool {
    const tokens = this.tokens;
    const isHas = tokens.isName(this.at, "has") && tokens.isSymbol(this.at + 1, "(");
    const length = isHas ? 3 + this.peerLength(this.at + 2) : 3;
    let state = "";
    if (isHas) {
      if (tokens.isSymbol(this.at + length - 1, ")")) state = this.peerAt(this.at + 2);
    } else if (tokens.isName(this.at + 1, "in") && tokens.isName(this.at + 2, FILTER_STATE)) {
      if (this.selectLength(this.at + 3) === 0) state = this.peerLiteral(this.at);
    }
    if (state.length === 0) return false;
    const question = "'" + state + "' in " + FILTER_STATE;
    this.at += length;
    this.out.push(isHas ? "(" + question + ")" : question);
    this.needsPeers = true;
    return true;
  }

  private takeRoot(): bool {
    if (!this.isRoot(this.at)) return false;
    const name = this.tokens.text(this.at);
    if (XDS_MEMBERS.includes(name)) {
      this.out.push("xds." + name);
    } else if (name.startsWith(ISTIO_STATE_PREFIX)) {
      // Bytes, which neither compare with nor start like a text.
      this.out.push("string(" + FILTER_STATE + "['" + WASM_STATE_PREFIX + name + "'])");
    } else {
      return false;
    }
    this.at++;
    return true;
  }

  /** The state of the peer that is named at a token; "" for anything else. */
  private peerAt(at: i32): string {
    if (!this.isRoot(at)) return "";
    if (!this.tokens.isName(at, FILTER_STATE)) return peerState(this.tokens.text(at));
    if (this.tokens.isSymbol(at + 1, "."))
      return this.tokens.isKind(at + 2, TokenKind.Name) ? peerState(this.tokens.text(at + 2)) : "";
    return this.selectLength(at + 1) === 3 ? this.peerLiteral(at + 2) : "";
  }

  /** How many tokens name it, if it is a peer. */
  private peerLength(at: i32): i32 {
    return this.tokens.isName(at, FILTER_STATE) ? 1 + this.selectLength(at + 1) : 1;
  }

  private peerLiteral(at: i32): string {
    if (!this.tokens.isKind(at, TokenKind.Text)) return "";
    const literal = this.tokens.text(at);
    const name = literal.substring(1, literal.length - 1);
    if (literal !== "'" + name + "'" && literal !== '"' + name + '"') return "";
    return peerState(name.startsWith(WASM_STATE_PREFIX) ? name.substring(WASM_STATE_PREFIX.length) : name);
  }

  /** A name that is no variable, not selected (`x.node`) and not called (`node()`). */
  private isRoot(at: i32): bool {
    const tokens = this.tokens;
    if (!tokens.isKind(at, TokenKind.Name) || this.variables.includes(tokens.text(at))) return false;
    return !tokens.isSymbol(at - 1, ".") && !tokens.isSymbol(at + 1, "(");
  }

  /** Tokens of `.name` or `['literal']`; 0 when neither stands there. */
  private selectLength(at: i32): i32 {
    const tokens = this.tokens;
    if (tokens.isSymbol(at, ".") && tokens.isKind(at + 1, TokenKind.Name)) return 2;
    const isIndex = tokens.isSymbol(at, "[") && tokens.isKind(at + 1, TokenKind.Text) && tokens.isSymbol(at + 2, "]");
    return isIndex ? 3 : 0;
  }
}

function peerState(name: string): string {
  if (name === UPSTREAM_PEER) return WASM_STATE_PREFIX + UPSTREAM_PEER_STRUCT;
  return name === DOWNSTREAM_PEER ? WASM_STATE_PREFIX + DOWNSTREAM_PEER_STRUCT : "";
}

/** The Struct's key for a field of the FlatBuffer. */
function currentName(field: string): string {
  if (field === "workload_name") return PEER_WORKLOAD;
  return field === "cluster_id" ? PEER_CLUSTER : field;
}
