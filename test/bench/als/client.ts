// An access-log client on bare HTTP/2: it sends what is encoded already, as fast as its window lets it.

import { type ClientHttp2Session, type ClientHttp2Stream, connect } from "node:http2";
import type { StreamLoad } from "./messages.ts";

const METHOD = "/envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs";

/** One stream over a connection of its own, as a proxy has it. */
export class AlsClient {
  /** Messages with entries that were handed over. */
  sent = 0;
  private readonly session: ClientHttp2Session;
  private readonly stream: ClientHttp2Stream;
  private readonly ended: Promise<void>;
  private isEnding = false;

  constructor(
    url: string,
    private readonly load: StreamLoad,
  ) {
    this.session = connect(url);
    this.stream = this.session.request({
      ":method": "POST",
      ":path": METHOD,
      "content-type": "application/grpc",
      te: "trailers",
    });
    this.ended = this.readAnswer();
    this.ended.catch(() => {}); // told to who awaits end()
    this.stream.on("drain", () => this.pump());
    this.stream.write(load.first);
    this.pump();
  }

  /** Ends the stream; resolves when the server has read all of it, rejects when it says otherwise. */
  async end(): Promise<void> {
    this.isEnding = true;
    this.stream.end();
    try {
      await this.ended;
    } finally {
      this.session.close();
    }
  }

  private pump(): void {
    if (this.isEnding) return;
    const nowSeconds = Math.floor(Date.now() / 1000);
    let hasRoom = true;
    while (hasRoom) {
      hasRoom = this.stream.write(this.load.take(nowSeconds));
      this.sent++;
    }
  }

  private readAnswer(): Promise<void> {
    return new Promise((resolve, reject) => {
      let status: string | undefined;
      const read = (headers: Record<string, unknown>) => {
        status = (headers["grpc-status"] as string | undefined) ?? status;
      };
      this.session.on("error", reject);
      this.stream.on("error", reject).on("response", read).on("trailers", read);
      this.stream.on("close", () => {
        if (this.isEnding && status === "0") resolve();
        else reject(new Error(`the server ended a stream${this.isEnding ? "" : " early"} with grpc-status ${status}`));
      });
      this.stream.resume();
    });
  }
}
