// Pages: two pieces of memory in which a body is written piece by piece, however long it is.

import { ByteWriter } from "./writer.ts";

/** Long enough that pieces are few, short enough that writing one takes less than a millisecond. */
export const PAGE_BYTES = 512 * 1024;

/** While one piece is sent, the next is written: a piece stays as it is until the one after the next is begun. */
export class Pages {
  /** Where to write. */
  page = new ByteWriter(PAGE_BYTES);
  private other = new ByteWriter(PAGE_BYTES);

  /** Makes room for so many bytes. If they do not fit behind it, the piece that was written so far, to be handed on before they are written. */
  reserve(bytes: number): Buffer | null {
    const isFull = this.page.at > 0 && this.page.at + bytes > PAGE_BYTES;
    const piece = isFull ? this.take() : null;
    this.page.ensure(bytes);
    return piece;
  }

  /** The piece that was written; another begins. */
  take(): Buffer {
    const piece = this.page.written();
    const { page } = this;
    this.page = this.other;
    this.page.at = 0;
    this.other = page;
    return piece;
  }
}
