// CurrentIndex: answers by the Kubernetes objects that it was given last.

import { AddressIndex, type AddressLookup, type Identity, type NameRules } from "./lookup.ts";
import { noObjects } from "./objects.ts";

export class CurrentIndex implements AddressLookup {
  /** Goes up with each replacement. */
  version = 0;
  private index: AddressLookup;

  constructor(rules: NameRules) {
    this.index = new AddressIndex(noObjects(), rules);
  }

  find(address: string, port: number): Identity | null {
    return this.index.find(address, port);
  }

  isShared(address: string): boolean {
    return this.index.isShared(address);
  }

  findPod(namespace: string, name: string): Identity | null {
    return this.index.findPod(namespace, name);
  }

  findHost(host: string): Identity | null {
    return this.index.findHost(host);
  }

  replace(index: AddressLookup): void {
    this.index = index;
    this.version++;
  }
}
