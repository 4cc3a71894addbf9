// EndpointCap: how many endpoints a service may have. What comes beyond is `other`: visible, counted, and of bounded memory.

import { OTHER } from "../vocabulary.ts";

/** Of all services together: some 10 MB. */
const MAX_ENDPOINTS = 100_000;

export class EndpointCap {
  private readonly byService = new Map<string, Set<string>>();
  private size = 0;

  /** `onOther` is told of each call whose endpoint was one too many. */
  constructor(
    private readonly perService: number,
    private readonly onOther: (service: string) => void,
  ) {}

  /** The endpoint, or `other`: who came first stays. `service`: what tells it from others, `reviews.default`. */
  admit(service: string, endpoint: string): string {
    const known = this.byService.get(service);
    if (known?.has(endpoint)) return endpoint;
    if (this.size >= MAX_ENDPOINTS || (known?.size ?? 0) >= this.perService) {
      this.onOther(service);
      return OTHER;
    }
    if (known === undefined) this.byService.set(service, new Set([endpoint]));
    else known.add(endpoint);
    this.size++;
    return endpoint;
  }
}
