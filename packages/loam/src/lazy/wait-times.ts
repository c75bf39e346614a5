/** Upper bounds of the classes of waits, in seconds: from what is here already to a registry that was gone for minutes. */
export const WAIT_BOUNDS: readonly number[] = [
  0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300,
]

/** How long reads have waited, counted by class. */
export class WaitTimes {
  readonly #counts = new Float64Array(WAIT_BOUNDS.length + 1)
  #sumSeconds = 0

  /** Counts a wait. */
  add(ms: number): void {
    const seconds = ms / 1000
    const at = WAIT_BOUNDS.findIndex((bound) => seconds <= bound)
    const place = at < 0 ? WAIT_BOUNDS.length : at
    this.#counts[place] = (this.#counts[place] ?? 0) + 1
    this.#sumSeconds += seconds
  }

  /** The number of waits of each class, of which the last has no bound; and the sum of all in seconds. */
  get all(): { readonly counts: number[]; readonly sumSeconds: number } {
    return { counts: [...this.#counts], sumSeconds: this.#sumSeconds }
  }
}
