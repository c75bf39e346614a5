import assert from 'node:assert/strict'
import { setTimeout as sleep } from 'node:timers/promises'
import type { RecoveryReport } from '../../src/index.ts'
import type { World } from './world.ts'

const LIMIT_MS = 120_000

/**
 * Runs `loam recover`, which has to succeed. A test beside this one may have made a mount namespace while the root filesystem was mounted, with a copy of that mount: Loam
 * does not mount a second one beside it, so that this waits for the end of the other test's process.
 */
export async function recoverAlone(world: World): Promise<RecoveryReport> {
  const poisoned = new Set<string>()
  for (const end = performance.now() + LIMIT_MS; ; await sleep(200)) {
    const { status, stdout, stderr } = await world.loamAsync('--json', 'recover')
    const report = JSON.parse(stdout) as RecoveryReport
    for (const path of report.poisoned) poisoned.add(path)
    if (status === 0) return { ...report, poisoned: [...poisoned] }
    const areCopies = report.failed.every(({ reason }) =>
      reason.includes('in the mount namespace of process'),
    )
    assert.ok(areCopies && performance.now() < end, stderr + stdout)
  }
}
