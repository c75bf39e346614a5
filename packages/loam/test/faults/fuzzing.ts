// R12: bytes from outside, changed until they reach new code; and archives compared with GNU tar and bsdtar.
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { compareListings } from '../fuzz/differential.ts'
import { fuzz } from '../fuzz/engine.ts'
import { TARGETS } from '../fuzz/targets.ts'
import { Watchdog } from '../fuzz/watchdog.ts'
import { testTool } from '../support/test-tools.ts'
import type { Group } from './outcome.ts'

const FINDINGS = testTool('findings')
/** A target that reaches fewer blocks of code has not been run. */
const LEAST_BLOCKS = 50

export const fuzzing: Group = {
  id: 'R12',
  what: 'fuzzing of all that takes bytes from outside, and listings beside GNU tar and bsdtar',
  isInTiers: true,
  run: async ({ isLong, seed }, outcome) => {
    mkdirSync(FINDINGS, { recursive: true })
    const watchdog = new Watchdog(join(FINDINGS, `hang-${process.pid}`))
    const seconds = isLong ? 600 : 2
    for (const target of TARGETS) {
      const { executions, blocks, findings } = await fuzz(target, {
        seconds,
        seed,
        keep: false,
        findings: FINDINGS,
        watchdog,
      })
      outcome.rounds += executions
      outcome.figures[target.name] = `${blocks} blocks`
      if (blocks < LEAST_BLOCKS) outcome.violations.push(`${target.name}: only ${blocks} blocks were reached`)
      for (const { file, error } of findings)
        outcome.violations.push(`${error}\n    again: npm run fuzz -- --only ${target.name} --input ${file}`)
    }
    watchdog.end()
    const { compared, disputed, findings } = compareListings(seconds * 2, seed)
    outcome.rounds += compared
    outcome.figures['listings compared'] = compared
    outcome.figures['where the tars differ'] = disputed
    if (compared < seconds) outcome.violations.push(`only ${compared} listings were compared`)
    for (const [index, { input, error }] of findings.entries()) {
      const file = join(FINDINGS, `listing-${seed}-${index}.tar`)
      writeFileSync(file, input)
      outcome.violations.push(`${file} is listed otherwise: ${error}`)
    }
  },
}
