import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, describe, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { leaseOrMake } from './lease.ts'

describe('leases', () => {
  const folder = mkdtempSync(join(tmpdir(), 'loam-lease-'))
  after(() => {
    rmSync(folder, { recursive: true })
  })

  test('one of many callers for a lease does the work, and the others wait for it', async () => {
    let made = 0
    const leases = await Promise.all(
      Array.from({ length: 20 }, async () =>
        leaseOrMake(
          join(folder, 'once'),
          () => made > 0,
          async () => {
            await sleep(20)
            made += 1
          },
        ),
      ),
    )
    assert.equal(made, 1)
    for (const lease of leases) lease.release()
  })

  test('two callers that take the same leases in opposite orders both get them', async () => {
    const made = new Set<string>()
    const lease = async (name: string) =>
      leaseOrMake(
        join(folder, name),
        () => made.has(name),
        async () => {
          await sleep(20)
          made.add(name)
        },
      )
    // Each caller has built one object, holds its lease, and has requested the other one while that was missing.
    const gather = async (names: readonly string[]) => Promise.all(names.map(lease))
    const both = Promise.all([gather(['a', 'b', 'c']), gather(['c', 'b', 'a'])])
    const late = sleep(60_000, 'deadlock' as const, { ref: false })
    const result = await Promise.race([both, late])
    assert.notEqual(result, 'deadlock')
    if (result !== 'deadlock') for (const held of result.flat()) held.release()
  })
})
