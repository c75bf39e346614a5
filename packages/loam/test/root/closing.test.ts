// A store that is closed, and calls that are canceled, while root filesystems are made and removed.
import assert from 'node:assert/strict'
import { mkdtempSync, realpathSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { isLoamError, type Loam, openLoam } from '../../src/index.ts'
import { buildImage, buildTar, writeOciLayout } from '../../src/testing/index.ts'
import { rounds } from '../support/rounds.ts'

const DELAYS = Array.from({ length: rounds(12, 4) }, (_delay, index) => index * 4)

describe('a store with calls in progress', () => {
  let folder: string
  let image: string
  const open = async (): Promise<Loam> =>
    openLoam({
      file: null,
      env: process.env,
      flags: { root: join(folder, 'store'), state: join(folder, 'state') },
    })
  const inStore = async <T>(act: (loam: Loam) => Promise<T>): Promise<T> => {
    await using loam = await open()
    return await act(loam)
  }

  before(async () => {
    folder = realpathSync(mkdtempSync(join(tmpdir(), 'loam-closing-')))
    const files = Array.from({ length: 300 }, (_file, index) => ({ name: `f/${index}`, data: 'x' }))
    writeOciLayout(join(folder, 'layout'), {
      t: buildImage({ tars: [buildTar([{ name: 'f/' }, ...files])] }),
    })
    image = `oci:${folder}/layout:t`
    await inStore(async (loam) => loam.pull(image))
  })
  after(async () => {
    await inStore(async (loam) => {
      for (const { id } of await loam.containers.list()) await loam.destroy(id)
    })
    rmSync(folder, { recursive: true })
  })

  for (const backend of ['erofs', 'copy'])
    test(`finishes them when it is closed (${backend})`, async () => {
      for (const delayMs of DELAYS) {
        const made = await open()
        const making = made.provision(image, { id: 'c1', backend })
        await sleep(delayMs)
        await made[Symbol.asyncDispose]()
        assert.equal((await making).containerId, 'c1')
        await assert.rejects(made.provision(image), (error) => isLoamError(error, 'USAGE'))
        const committed = await open()
        const committing = committed.images.commit('c1', 'localhost/made:1')
        await sleep(delayMs)
        await committed[Symbol.asyncDispose]()
        assert.equal((await committing).image.layers.length, backend === 'copy' ? 1 : 2)
        const removed = await open()
        const removing = removed.destroy('c1')
        await sleep(delayMs)
        await removed[Symbol.asyncDispose]()
        assert.equal(await removing, true)
        assert.deepEqual(await inStore(async (loam) => loam.containers.list()), [])
      }
    })

  test('has no root filesystem of a call that was canceled', async () => {
    await inStore(async (loam) => {
      let canceled = 0
      for (const backend of ['erofs', 'overlay', 'copy']) {
        for (const delayMs of [...DELAYS, 1, 2, 3, 5, 7]) {
          const provisioning = loam.provision(image, { backend, signal: AbortSignal.timeout(delayMs) })
          const result = await provisioning.catch((error: unknown) => error)
          const isCanceled = isLoamError(result, 'CANCELED')
          if (isCanceled) canceled += 1
          const left = await loam.containers.list()
          assert.deepEqual(
            left.map(({ rootfses }) => rootfses.map(({ state }) => state)),
            isCanceled ? [] : [['ready']],
          )
          for (const { id } of left) await loam.destroy(id)
        }
      }
      assert.ok(canceled > 0)
    })
  })
})
