// Images made of random operations, and containers changed at random, compared with a model. Longer forms: npm run faults.
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { Random } from '../faults/random.ts'
import { someOf } from '../support/rounds.ts'
import { checkRound, ROUND_KINDS, SHORT } from '../model/check-round.ts'

const TITLES = {
  trees: 'show the same tree from their tars and from their indexes as a plain model',
  image: 'show the same tree in every backend and export as a plain model',
  commits: 'of containers changed at random show the same as the containers',
}
const SEED = Number(process.env['LOAM_MODEL_SEED'] ?? Date.now() % 1_000_000)

describe('random images', () => {
  for (const kind of ROUND_KINDS) {
    for (const seed of someOf([1, SEED], 1)) {
      test(`random images: ${TITLES[kind]}, seed ${seed === 1 ? 1 : 'of the clock'}`, async () => {
        const wrong = await checkRound(kind, new Random(seed), SHORT)
        assert.deepEqual(wrong, [], `again: LOAM_MODEL_SEED=${seed} node --test ${import.meta.filename}`)
      })
    }
  }
})
