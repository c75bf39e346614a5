import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { GroupSync } from './group-sync.ts'

describe('waiting together', () => {
  test('callers that come during a sync share the next one, and an earlier sync satisfies none of them', async () => {
    const ends: (() => void)[] = []
    const group = new GroupSync(
      async () =>
        new Promise<void>((resolve) => {
          ends.push(resolve)
        }),
    )
    const done: string[] = []
    const waiter = async (name: string) => {
      await group.wait()
      done.push(name)
    }
    const all = [waiter('a'), waiter('b'), waiter('c')]
    await Promise.resolve()
    assert.equal(ends.length, 1)
    ends[0]?.()
    await all[0]
    assert.deepEqual(done, ['a'])
    await new Promise(setImmediate)
    assert.equal(ends.length, 2)
    all.push(waiter('d'))
    ends[1]?.()
    await Promise.all(all.slice(0, 3))
    assert.deepEqual(done, ['a', 'b', 'c'])
    await new Promise(setImmediate)
    assert.equal(ends.length, 3)
    ends[2]?.()
    await Promise.all(all)
  })

  test('a failed sync fails the callers that waited for it, and no others', async () => {
    let calls = 0
    const group = new GroupSync(async () => {
      calls += 1
      await new Promise(setImmediate)
      if (calls === 1) throw new Error('EIO')
    })
    const [first, second] = await Promise.allSettled([group.wait(), group.wait()])
    assert.equal(first.status, 'rejected')
    assert.equal(second.status, 'fulfilled')
    await group.wait()
    assert.equal(calls, 3)
  })
})
