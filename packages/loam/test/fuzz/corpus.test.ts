import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { Random } from '../faults/random.ts'
import { keptInputs, tryInput } from './engine.ts'
import { TARGETS } from './targets.ts'

describe('inputs that fuzzing has kept', () => {
  for (const target of TARGETS) {
    test(`the inputs that fuzzing has kept are answered by ${target.name}`, async () => {
      const inputs = keptInputs(target)
      assert.ok(inputs.length > 5, `only ${inputs.length}`)
      for (const input of [...inputs, ...target.seeds()])
        assert.equal(await tryInput(target, input, new Random(1)), undefined)
    })
  }
})
