// npm run faults: breaks the real command in every way that this machine allows, and checks the result. Prints a table; exits with 1 on
// any violation. Groups run in processes of their own, several at a time, each with its own mounts.
//   npm run faults [-- --long] [--only R1,R3] [--seed N] [--round N] [--rounds N]
import { spawn } from 'node:child_process'
import { parseArgs } from 'node:util'
import { servedApi } from './api.ts'
import { attackers } from './attackers.ts'
import { killedDaemon } from './daemon.ts'
import { fuzzing } from './fuzzing.ts'
import { randomImages } from './images.ts'
import { countedKills, randomKills } from './kills.ts'
import { killedHandler } from './lazy.ts'
import { ioErrors, littleOfAProcess, littleSpace, wrongClocks } from './machine.ts'
import { badLines, longLife, manyProcesses } from './many.ts'
import { type Group, Outcome } from './outcome.ts'
import { carelessStores, powerCuts } from './power.ts'
import { Scene } from './scene.ts'
import { simulatedLives } from './simulated.ts'
import { isFew } from '../support/rounds.ts'

const GROUPS: readonly Group[] = [
  randomKills,
  countedKills,
  powerCuts,
  littleSpace,
  ioErrors,
  littleOfAProcess,
  manyProcesses,
  killedDaemon,
  badLines,
  wrongClocks,
  longLife,
  fuzzing,
  simulatedLives,
  carelessStores,
  randomImages,
  servedApi,
  attackers,
  killedHandler,
]
const AT_A_TIME = 4

const { values } = parseArgs({
  options: {
    long: { type: 'boolean', default: false },
    only: { type: 'string' },
    seed: { type: 'string' },
    round: { type: 'string' },
    rounds: { type: 'string' },
    /** Runs a group in this child process. */
    here: { type: 'boolean', default: false },
  },
})
const only = values.only?.split(',')
const chosen = GROUPS.filter(({ id, isInTiers }) => only?.includes(id) ?? !(isFew && isInTiers))
if (chosen.length === 0) throw new Error(`no such group; there are ${GROUPS.map(({ id }) => id).join(', ')}`)
const seed = Number(values.seed ?? Date.now() % 1_000_000)

if (values.here) for (const group of chosen) await runHere(group)
else await runAll()

async function runHere(group: Group): Promise<void> {
  await using scene = await Scene.make()
  const context = {
    scene,
    seed,
    isLong: values.long,
    onlyRound: values.round === undefined ? undefined : Number(values.round),
    rounds: values.rounds === undefined ? undefined : Number(values.rounds),
  }
  const outcome = new Outcome(group.id, context)
  const start = performance.now()
  await group.run(context, outcome)
  const figures = Object.entries(outcome.figures).map(([name, value]) => `${name} ${value}`)
  const seconds = ((performance.now() - start) / 1000).toFixed(0)
  console.log(
    `${group.id.padEnd(4)} ${group.what}: ${outcome.rounds} rounds, ${outcome.violations.length} violations, ${seconds} s${figures.length > 0 ? ` (${figures.join(', ')})` : ''}`,
  )
  for (const violation of outcome.violations) console.log(`     ${violation}`)
  if (outcome.violations.length > 0) process.exitCode = 1
}

async function runAll(): Promise<void> {
  console.log(`seed ${seed}`)
  const waiting = [...chosen]
  const work = async () => {
    for (let group = waiting.shift(); group !== undefined; group = waiting.shift()) {
      const args = [
        ...(values.long ? ['--long'] : []),
        ...(values.round === undefined ? [] : ['--round', values.round]),
        ...(values.rounds === undefined ? [] : ['--rounds', values.rounds]),
        ...['--only', group.id, '--seed', String(seed), '--here'],
      ]
      const command = [process.execPath, '--expose-gc', import.meta.filename, ...args]
      const child = spawn('unshare', ['--mount', '--propagation', 'private', ...command], {
        stdio: 'inherit',
      })
      const { promise, resolve } = Promise.withResolvers<number | null>()
      child.once('close', resolve)
      if ((await promise) !== 0) process.exitCode = 1
    }
  }
  await Promise.all(Array.from({ length: AT_A_TIME }, work))
}
