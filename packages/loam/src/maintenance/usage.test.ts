import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { openWiring } from '../../test/support/open-wiring.ts'
import { countTurns } from '../../test/support/turns.ts'
import type { Wiring } from '../app/wiring.ts'
import { digestOf, type DiffId } from '../image/index.ts'
import { describePartialLayers } from '../lazy/index.ts'
import { diskUsage } from '../linux/index.ts'
import { measureStore } from './index.ts'

const LAYERS = 500
const SUMMARY = {
  entries: 1,
  fileBytes: 2,
  hasOpaqueRoot: false,
  hasImplicitDirectories: false,
  hasLowerLinks: false,
  hasZeroDevices: false,
  hasWhiteouts: false,
  root: undefined,
}
const diffIds = Array.from(
  { length: LAYERS },
  (_, index) => digestOf(Buffer.from(`layer ${index}`), 'sha256') as string as DiffId,
)

describe('a store with many partial layers', () => {
  let folder: string
  let wiring: Wiring
  before(async () => {
    folder = mkdtempSync(join(tmpdir(), 'loam-usage-'))
    wiring = await openWiring(folder)
    await Promise.all(diffIds.map(put))
  })
  after(async () => {
    await wiring[Symbol.asyncDispose]()
    rmSync(folder, { recursive: true })
  })

  const put = async (diffId: DiffId, index: number) => {
    const layer = { diffId, tarBytes: 1024, summary: SUMMARY, createdAtMs: index, data: 'partial' } as const
    const blob = { digest: diffId, mediaType: 'm', sizeBytes: 1 }
    const source = { diffId, blob, reference: 'r:1', indexDigest: diffId, trustedBy: 't' }
    const meta = {
      owner: diffId,
      kind: 'meta',
      bootId: 'b',
      isDurable: true,
      createdAtMs: 1,
      generation: 1,
    } as const
    await wiring.metadata.layers.putPartial(layer, source, meta)
  }

  test('is measured while other work runs', async () => {
    const { paths, metadata, layers } = wiring
    // Everything counts as small here: a thread would leave this one free.
    const { result, turns } = await countTurns(async () =>
      measureStore({ paths, metadata, layers, measure: async (path) => diskUsage(path) }),
    )
    assert.deepEqual(
      result.layers.map(({ diffId }) => diffId),
      diffIds,
    )
    assert.ok(turns > 0, 'the thread was never free')
  })

  test('describes each while other work runs, and none that was removed meanwhile', async () => {
    const { result, turns } = await countTurns(async () => {
      const described = describePartialLayers(wiring, undefined)
      for (const diffId of diffIds.slice(-1)) await wiring.metadata.layers.remove(diffId)
      return described
    })
    assert.deepEqual(
      result.map(({ diffId, totalBytes }) => [diffId, totalBytes]),
      diffIds.slice(0, -1).map((diffId) => [diffId, 1024]),
    )
    assert.ok(turns > 0, 'the thread was never free')
  })
})
