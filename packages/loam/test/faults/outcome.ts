// The result of a group of faults.
import { rounds } from '../support/rounds.ts'
import { Random } from './random.ts'
import type { Scene } from './scene.ts'

export interface GroupContext {
  readonly scene: Scene
  readonly seed: number
  /** The long form. */
  readonly isLong: boolean
  /** Round to run alone; of a group whose rounds start from an empty store. */
  readonly onlyRound: number | undefined
  /** Number of rounds, if it differs from the form's. */
  readonly rounds: number | undefined
}

/** One group of faults: runs its rounds, and reports violations by `outcome`. */
export interface Group {
  readonly id: string
  readonly what: string
  /** The tiers run fewer rounds of the same: `npm run verify` leaves it to them. */
  readonly isInTiers?: true
  readonly run: (context: GroupContext, outcome: Outcome) => Promise<void>
}

/** Counts rounds, and keeps the violations with the command that repeats them. */
export class Outcome {
  readonly violations: string[] = []
  /** Figures to report, by name. */
  readonly figures: Record<string, string | number> = {}
  rounds = 0
  readonly #context: GroupContext
  readonly #id: string

  constructor(id: string, context: GroupContext) {
    this.#id = id
    this.#context = context
  }

  count(name: string, by = 1): void {
    this.figures[name] = Number(this.figures[name] ?? 0) + by
  }

  /** Runs rounds, each with random numbers of its own, so that one can be repeated alone; a quarter of them where `npm run verify` has no time for more. */
  async repeat(
    all: number,
    act: (random: Random, round: number) => Promise<readonly string[]>,
  ): Promise<void> {
    const { seed, isLong, onlyRound, rounds: asked } = this.#context
    const usual = isLong ? all : rounds(all, Math.ceil(all / 4))
    const first = onlyRound ?? 0
    const end = onlyRound === undefined ? (asked ?? usual) : onlyRound + 1
    for (let round = first; round < end; round += 1) {
      const random = new Random(seed * 1_000_003 + round)
      this.rounds += 1
      this.add(round, await act(random, round))
    }
  }

  /** The same with one of a list of cases each: all of them in the long form, else the requested number, chosen by the seed. */
  async repeatCases<T>(
    cases: readonly T[],
    some: number,
    act: (one: T, random: Random) => Promise<readonly string[]>,
  ): Promise<void> {
    const { seed, isLong } = this.#context
    const order = new Random(seed).shuffle(cases)
    await this.repeat(isLong ? cases.length : Math.min(some, cases.length), async (random, round) => {
      const one = order[round % order.length]
      return one === undefined ? [] : act(one, random)
    })
  }

  /** Requires that an event happened at least once in a number of rounds: a fault that never occurs proves nothing. */
  require(name: string): void {
    if (this.rounds >= 10 && Number(this.figures[name] ?? 0) === 0)
      this.violations.push(`in ${this.rounds} rounds there was nothing: ${name}`)
  }

  add(round: number, wrong: readonly string[]): void {
    const replay = `npm run faults -- --only ${this.#id} --seed ${this.#context.seed} --round ${round}`
    for (const one of wrong) {
      this.violations.push(`${one}\n    again: ${replay}`)
    }
  }
}
