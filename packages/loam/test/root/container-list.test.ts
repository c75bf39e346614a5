import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, realpathSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { parseDigest } from '../../src/image/index.ts'
import { unmountTop } from '../../src/linux/index.ts'
import { parseContainerId, type RootfsRecord } from '../../src/metadata/index.ts'
import type { Wiring } from '../../src/app/wiring.ts'
import { openWiring } from '../support/open-wiring.ts'
import { countTurns } from '../support/turns.ts'

const CONTAINERS = 400
const ids = Array.from({ length: CONTAINERS }, (_, index) => `c${String(index).padStart(4, '0')}`)

describe('the list of many containers', () => {
  let folder: string
  let wiring: Wiring
  const pathOf = (id: string) => join(folder, 'store', 'containers', id, 'rootfs')
  before(async () => {
    folder = realpathSync(mkdtempSync(join(tmpdir(), 'loam-container-list-')))
    wiring = await openWiring(folder)
    await Promise.all(ids.map(async (id) => put(id)))
    for (const id of ids.filter((_, index) => index % 2 === 0)) mkdirSync(pathOf(id), { recursive: true })
  })
  after(async () => {
    await wiring[Symbol.asyncDispose]()
    rmSync(folder, { recursive: true })
  })

  const put = async (id: string, more: Partial<RootfsRecord> = {}) => {
    const rootfs: RootfsRecord = {
      uuid: id,
      containerId: parseContainerId(id),
      state: 'ready',
      backend: 'copy',
      reference: 'r:1',
      imageDigest: parseDigest(`sha256:${'a'.repeat(64)}`),
      chainId: undefined,
      layers: [],
      rootfsPath: pathOf(id),
      scratchPath: join(folder, 'scratch', id),
      isReadOnly: false,
      sizeBytes: undefined,
      idMapping: undefined,
      volumeTarget: undefined,
      volumeRoot: undefined,
      volumeSubPath: undefined,
      volumeMount: undefined,
      bootId: 'b',
      createdAtMs: 1,
      ...more,
    }
    await wiring.metadata.containers.putRootfs(rootfs, false)
  }

  test('has what each container alone has, and other work runs while it is made', async () => {
    const { result: listed, turns } = await countTurns(async () => wiring.provisioner.list())
    assert.deepEqual(
      listed,
      ids.map((id) => wiring.provisioner.find(id)),
    )
    assert.deepEqual(
      listed.map(({ rootfses }) => rootfses.map(({ isStanding }) => isStanding)),
      ids.map((_, index) => [index % 2 === 0]),
    )
    assert.ok(turns > 0, 'the thread was never free')
  })

  test('knows a root filesystem that is mounted meanwhile, and has no container that is removed', async () => {
    await put('z', { isReadOnly: true })
    mkdirSync(pathOf('z'), { recursive: true })
    const listing = wiring.provisioner.list()
    execFileSync('mount', ['--bind', pathOf('z'), pathOf('z')])
    execFileSync('mount', ['-o', 'remount,bind,ro', pathOf('z')])
    try {
      await wiring.metadata.containers.remove(parseContainerId(ids.at(-1) ?? ''))
      const listed = await listing
      assert.deepEqual(
        listed.map(({ id }) => id),
        [...ids.slice(0, -1), 'z'],
      )
      assert.equal(listed.at(-1)?.rootfses[0]?.isStanding, true)
    } finally {
      unmountTop(pathOf('z'))
    }
  })
})
