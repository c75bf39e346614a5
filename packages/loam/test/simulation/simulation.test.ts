import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { libc } from '../../src/linux/libc.ts'
import { Random } from '../faults/random.ts'
import { Machine } from './machine.ts'

/** Faults R13 (test/faults/simulated.ts), which `npm run verify` runs too, sets hundreds. */
const LIVES = Number(process.env['LOAM_SIMULATED_LIVES'] ?? 50)
const FIRST = Number(process.env['LOAM_SIMULATION_SEED'] ?? 1)

test('lives of a store, each with its own kills, failing calls, power cuts and registry, end as a model says', async () => {
  const machine = new Machine(new Random(0))
  machine.install(libc)
  // Loaded after the machine is in place, since some modules look calls up once.
  const { simulate } = await import('./simulation.ts')
  const parent = mkdtempSync(join(existsSync('/dev/shm') ? '/dev/shm' : tmpdir(), 'loam-simulation-'))
  try {
    for (let seed = FIRST; seed < FIRST + LIVES; seed += 1) {
      try {
        await simulate(machine, seed, parent)
      } catch (error) {
        throw new Error(`again: LOAM_SIMULATED_LIVES=1 LOAM_SIMULATION_SEED=${seed}`, { cause: error })
      }
    }
  } finally {
    rmSync(parent, { recursive: true, force: true })
  }
})
