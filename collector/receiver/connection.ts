// What the streams of one HTTP/2 connection share: how much came over it, and whether its client may send.

import type { Http2Session, ServerHttp2Stream } from "node:http2";

/**
 * What a client may send, on a stream and on a connection, before it hears that more was read. HTTP/2's own 64 KiB are full within
 * milliseconds; and what a client holds back for want of a window is lost when the stream is answered.
 */
export const WINDOW_BYTES = 4 * 1024 * 1024;
/** What a client takes a stream's window for that was told nothing. */
const DEFAULT_WINDOW_BYTES = 65_535;

export class Connection {
  private static readonly bySession = new WeakMap<Http2Session, Connection>();
  /** Bytes that its streams have brought. */
  bytesRead = 0;
  /** The streams' windows that the client was told last, and those that it has said it knows. */
  private toldBytes = DEFAULT_WINDOW_BYTES;
  private knownBytes = DEFAULT_WINDOW_BYTES;

  private constructor(
    private readonly session: Http2Session | null,
    private isHeld: boolean,
  ) {
    session?.setLocalWindowSize(WINDOW_BYTES);
    this.tell();
  }

  /** Of this stream. When it is seen for the first time, its windows are widened; those of its streams, if it is to be held, closed. */
  static of({ session }: ServerHttp2Stream, isHeld: boolean): Connection {
    const known = session && Connection.bySession.get(session);
    if (known) return known;
    if (session === undefined || session.destroyed) return new Connection(null, isHeld);
    const connection = new Connection(session, isHeld);
    Connection.bySession.set(session, connection);
    return connection;
  }

  /** Whether its client may send, and knows it. */
  get isOpen(): boolean {
    return !this.isHeld && this.knownBytes === WINDOW_BYTES;
  }

  /**
   * Takes the windows of its streams back, those that it was given already too (RFC 9113, 6.9.2): its client sends no more as soon as it
   * knows. (Node.js gives room for more on the connection whatever becomes of what came; so the connection's window is no hold.)
   */
  hold(): void {
    this.isHeld = true;
    this.tell();
  }

  release(): void {
    this.isHeld = false;
    this.tell();
  }

  /** One SETTINGS frame at a time: a connection on which ten wait for an answer is closed. */
  private tell(): void {
    const { session } = this;
    const bytes = this.isHeld ? 0 : WINDOW_BYTES;
    if (session === null || session.destroyed || this.toldBytes !== this.knownBytes || this.toldBytes === bytes) return;
    this.toldBytes = bytes;
    session.settings({ initialWindowSize: bytes }, (error) => {
      if (error !== null) return; // it is closing
      this.knownBytes = bytes;
      this.tell();
    });
  }
}
