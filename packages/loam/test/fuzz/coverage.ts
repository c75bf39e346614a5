import { Session, type Profiler } from 'node:inspector'

/** The blocks of Loam's code that have run, by V8's precise coverage: they show an input that reaches new code. */
export class Coverage implements Disposable {
  readonly #session = new Session()
  readonly #seen = new Set<string>()

  constructor() {
    this.#session.connect()
    this.#session.post('Profiler.enable')
    this.#session.post('Profiler.startPreciseCoverage', { callCount: true, detailed: true })
    this.take()
  }

  /** How many blocks have ever run, each counted anew when it runs twice, four times, eight times… as often in one input. */
  get size(): number {
    return this.#seen.size
  }

  /** Returns the blocks that have run since the last call. Costs about a millisecond. */
  take(): string[] {
    let scripts: Profiler.ScriptCoverage[] = []
    // In this process the answer comes before `post` returns.
    this.#session.post('Profiler.takePreciseCoverage', (error, answer) => {
      if (error !== null) throw error
      scripts = answer.result
    })
    return scripts
      .filter(({ url }) => url.includes('/packages/loam/src/') && !url.includes('/testing/'))
      .flatMap(({ scriptId, functions }) =>
        functions.flatMap(({ ranges }) =>
          ranges
            .filter(({ count }) => count > 0)
            .map(
              ({ startOffset, endOffset, count }) =>
                `${scriptId}:${startOffset}:${endOffset}:${Math.min(7, Math.floor(Math.log2(count)))}`,
            ),
        ),
      )
  }

  /** Returns whether any of the blocks is new, and remembers them. */
  isNew(features: readonly string[]): boolean {
    const before = this.#seen.size
    for (const feature of features) this.#seen.add(feature)
    return this.#seen.size > before
  }

  [Symbol.dispose](): void {
    this.#session.disconnect()
  }
}
