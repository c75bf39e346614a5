// npm run fuzz: changes inputs until they reach new code, for everything that reads bytes from outside. Exits with 1 on any finding.
//   npm run fuzz [-- --only tar,erofs] [--seconds 60] [--seed N] [--keep] [--input FILE --only NAME]
import { mkdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { Random } from '../faults/random.ts'
import { fuzz, tryInput } from './engine.ts'
import { TARGETS } from './targets.ts'
import { testTool } from '../support/test-tools.ts'
import { Watchdog } from './watchdog.ts'

const FINDINGS = testTool('findings')

const { values } = parseArgs({
  options: {
    only: { type: 'string' },
    seconds: { type: 'string', default: '30' },
    seed: { type: 'string' },
    keep: { type: 'boolean', default: false },
    input: { type: 'string' },
  },
})
const only = values.only?.split(',')
const chosen = TARGETS.filter(({ name }) => only === undefined || only.includes(name))
if (chosen.length === 0)
  throw new Error(`no such target; there are ${TARGETS.map(({ name }) => name).join(', ')}`)
const seed = Number(values.seed ?? Date.now() % 1_000_000)

if (values.input !== undefined) {
  const [target] = chosen
  const wrong =
    target === undefined ? 'no target' : await tryInput(target, readFileSync(values.input), new Random(seed))
  console.log(wrong ?? 'nothing is wrong with it')
  process.exit(wrong === undefined ? 0 : 1)
}

mkdirSync(FINDINGS, { recursive: true })
const watchdog = new Watchdog(join(FINDINGS, `hang-${process.pid}`))
console.log(`seed ${seed}`)
for (const target of chosen) {
  const seconds = Number(values.seconds)
  const result = await fuzz(target, { seconds, seed, keep: values.keep, findings: FINDINGS, watchdog })
  console.log(
    `${target.name.padEnd(12)} ${result.executions} inputs, ${result.corpus} kept, ${result.blocks} blocks, ${result.findings.length} findings`,
  )
  for (const { file, error } of result.findings) {
    console.log(`  ${file}\n${error.replace(/^/gm, '    ')}`)
    console.log(`  again: npm run fuzz -- --only ${target.name} --input ${file}`)
    process.exitCode = 1
  }
}
