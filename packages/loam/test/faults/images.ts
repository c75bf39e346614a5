// R15: images made of random operations, compared with a model, in every backend and export; and commits of containers changed at random.
import { checkRound, LONG, MIDDLE, ROUND_KINDS } from '../model/check-round.ts'
import type { Group } from './outcome.ts'

export const randomImages: Group = {
  id: 'R15',
  what: 'random images and commits, held against a model',
  isInTiers: true,
  run: async ({ isLong }, outcome) => {
    const size = isLong ? LONG : MIDDLE
    await outcome.repeat(isLong ? 600 : 6, async (random, round) => {
      const kind = ROUND_KINDS[round % ROUND_KINDS.length] ?? 'trees'
      outcome.count(kind)
      return checkRound(kind, random, size)
    })
  },
}
