/** A host that has sent one span so quickly: what is fetched ahead takes next to nothing of its line from a reader. */
const NEAR_MS = 8
/** Times that are remembered: a host that was near is soon seen to be far. */
const KEPT = 8

/** Knows which hosts are so near that their line need not be kept free for a reader that jumps. A host is far until it has answered. */
export class NearHosts {
  readonly #times = new Map<string, number[]>()

  /** Records the milliseconds from a request for one span to its last byte. */
  note(host: string, ms: number): void {
    const times = this.#times.get(host) ?? []
    this.#times.set(host, [...times.slice(1 - KEPT), ms])
  }

  /** Returns whether a host is near. The shortest time counts: the others waited for a processor, and not for the line. */
  has(host: string): boolean {
    return Math.min(...(this.#times.get(host) ?? [])) <= NEAR_MS
  }
}
