// npm run faults: breaks the real command in every way that this machine can, and looks at what is left. Prints a table; ends with 1 when
// anything is wrong.
//   npm run faults [-- --long] [--only R1,R3] [--seed N] [--round N]
import { parseArgs } from 'node:util'
import { countedKills, randomKills } from './kills.ts'
import { type Group, type GroupContext, Outcome } from './outcome.ts'
import { carelessStores, powerCuts } from './power.ts'
import { Scene } from './scene.ts'

const GROUPS: readonly Group[] = [randomKills, countedKills, powerCuts, carelessStores]

const { values } = parseArgs({
  options: {
    long: { type: 'boolean', default: false },
    only: { type: 'string' },
    seed: { type: 'string' },
    round: { type: 'string' },
  },
})
const only = values.only?.split(',')
const chosen = GROUPS.filter(({ id }) => only === undefined || only.includes(id))
if (chosen.length === 0) throw new Error(`no such group; there are ${GROUPS.map(({ id }) => id).join(', ')}`)
const seed = Number(values.seed ?? Date.now() % 1_000_000)
await using scene = await Scene.make()
const context: GroupContext = {
  scene,
  seed,
  isLong: values.long,
  onlyRound: values.round === undefined ? undefined : Number(values.round),
}
console.log(`seed ${seed}`)
const violations: string[] = []
for (const group of chosen) {
  const outcome = new Outcome(group.id, context)
  const start = performance.now()
  await group.run(context, outcome)
  violations.push(...outcome.violations.map((one) => `${group.id}: ${one}`))
  const figures = Object.entries(outcome.figures).map(([name, value]) => `${name} ${value}`)
  const seconds = ((performance.now() - start) / 1000).toFixed(0)
  console.log(
    `${group.id.padEnd(4)} ${group.what}: ${outcome.rounds} rounds, ${outcome.violations.length} violations, ${seconds} s (${figures.join(', ')})`,
  )
}
for (const violation of violations) console.log(violation)
if (violations.length > 0) process.exitCode = 1
