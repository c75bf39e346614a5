// R13: lives of a store on a simulated machine, in a process of their own: they replace the system calls.
import { spawn } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import type { Group } from './outcome.ts'

const TEST = fileURLToPath(new URL('../simulation/simulation.test.ts', import.meta.url))

export const simulatedLives: Group = {
  id: 'R13',
  what: 'lives of a store on a simulated machine, held against a model',
  isInTiers: true,
  run: async ({ isLong, seed, onlyRound }, outcome) => {
    const lives = onlyRound === undefined ? (isLong ? 100_000 : 300) : 1
    const env = {
      ...process.env,
      LOAM_SIMULATED_LIVES: String(lives),
      LOAM_SIMULATION_SEED: String(onlyRound ?? seed * 1000),
    }
    const child = spawn(process.execPath, ['--test', TEST], { env, stdio: ['ignore', 'pipe', 'inherit'] })
    let output = ''
    child.stdout.on('data', (chunk: Buffer) => {
      output += chunk.toString('utf8')
    })
    const { promise, resolve } = Promise.withResolvers<number | null>()
    child.once('close', resolve)
    const status = await promise
    outcome.rounds += lives
    if (status === 0) return
    const failed = /LOAM_SIMULATION_SEED=(\d+)/.exec(output)?.[1] ?? '0'
    outcome.add(Number(failed), [output.slice(0, 4000)])
  },
}
