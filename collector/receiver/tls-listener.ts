// Listens for TLS connections that speak HTTP/2, and hands on those whose handshake came to its end.

import type { AddressInfo } from "node:net";
import { createServer, type Server, type TLSSocket } from "node:tls";
import type { ServerTls } from "../tls/server-tls.ts";

export class TlsListener {
  private readonly server: Server;

  constructor(
    private readonly tls: ServerTls,
    onConnection: (socket: TLSSocket) => void,
  ) {
    this.server = createServer({ ...tls.serverOptions, ALPNProtocols: ["h2"] }, (socket) => {
      socket.on("error", () => {}); // it ends then, and with it the streams on it, each of which says so
      onConnection(socket);
    });
    tls.serve(this.server);
  }

  /** Resolves to the port; rejects when the address, `127.0.0.1:11800` or `[::1]:11800`, cannot be listened on. */
  listen(address: string): Promise<number> {
    const colon = address.lastIndexOf(":");
    const host = address.slice(0, colon).replace(/^\[(.*)\]$/, "$1");
    return new Promise((resolve, reject) => {
      this.server.on("error", reject); // once it listens, it tells so of a connection that it could not take
      this.server.listen(Number(address.slice(colon + 1)), host, () => {
        resolve((this.server.address() as AddressInfo).port);
      });
    });
  }

  /** Takes no new connection. */
  close(): void {
    this.server.close();
  }

  /** Ends what is still open. */
  destroy(): void {
    this.close();
    this.tls.stop();
  }
}
