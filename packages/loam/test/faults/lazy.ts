// The handler of partial layers is killed while readers compare every file that it fills.
import { killHandler } from '../support/kill-handler.ts'
import { rounds } from '../support/rounds.ts'
import type { Group } from './outcome.ts'

/** With ten kills each. `npm run verify` has time for few. */
const ROUNDS = rounds(20, 2)
const KILLS = 10

export const killedHandler: Group = {
  id: 'lazy',
  what: `the handler of partial layers is killed under four readers, ${ROUNDS * KILLS} times`,
  run: async ({ isLong }, outcome) => {
    await outcome.repeat(isLong ? ROUNDS * 10 : ROUNDS, async (random) => {
      const { kills, wrong, failed } = await killHandler({
        kills: KILLS,
        files: 120,
        readers: 4,
        random: () => random.next(),
      })
      outcome.count('kills', kills)
      return [
        ...wrong.map((name) => `${name} was read wrong`),
        ...failed.map((name) => `${name} could not be read`),
      ]
    })
  },
}
