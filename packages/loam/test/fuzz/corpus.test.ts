import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { Random } from '../faults/random.ts'
import { keptInputs, tryInput } from './engine.ts'
import { TARGETS } from './targets.ts'

describe('the corpus of the fuzzer', () => {
  for (const target of TARGETS) {
    test(`the corpus of the fuzzer causes no defect in ${target.name}`, async () => {
      const inputs = keptInputs(target)
      assert.ok(inputs.length > 5, `only ${inputs.length}`)
      for (const input of [...inputs, ...target.seeds()])
        assert.equal(await tryInput(target, input, new Random(1)), undefined)
    })
  }
})
