// What the page shows of images that were pulled lazily, in a real browser.
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { mkdtempDisposableSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { promisify } from 'node:util'
import { buildImage, buildTar } from 'loamfs/testing'
import { endHandlers } from '../../../loam/test/support/lazy-world.ts'
import { findBarriers } from '../support/browser.ts'
import { PageWorld } from '../support/page-world.ts'

const image = buildImage({
  tars: [buildTar([{ name: 'file', data: 'here' }])],
  compression: 'gzip',
})

test('the page shows which data is missing and why it does not come, for an image and its container, until it is here', async () => {
  using indexes = mkdtempDisposableSync(join(tmpdir(), 'loam-page-'))
  await using world = await PageWorld.start({ lazy_trust: 'own', lazy_index_dir: indexes.path })
  try {
    const name = world.serve('team/late', 'v1', image)
    await world.ask('POST', '/v1/images/index', {
      image: name,
      output: indexes.path,
      insecure: [world.registry.host],
    })
    let isRefused = true
    world.registry.intercept = (request, response) => {
      const isLayer = request.url?.endsWith(`/blobs/${image.layers[0]?.digest}`) === true
      if (!isRefused || !isLayer) return false
      response.writeHead(503).end()
      return true
    }
    const { rootfsPath } = (await world.ask('POST', '/v1/containers/provision', {
      ...{ image: name, id: 'late', backend: 'erofs', lazy: true },
    })) as { rootfsPath: string }
    const reading = promisify(execFile)('cat', [join(rootfsPath, 'file')])
    const page = await world.open()
    for (const view of ['Images', 'Containers']) {
      await page.getByRole('navigation', { name: 'Views' }).getByRole('link', { name: view }).click()
      const row = page.getByRole('row', { name: /team\/late:v1/ })
      await row.getByText(/missing, starved/).waitFor()
      await row.getByText(/the registry answered 503/).waitFor()
      assert.deepEqual(await findBarriers(page), [], view)
    }
    isRefused = false
    assert.equal((await reading).stdout, 'here')
    await page.getByText(/missing/).waitFor({ state: 'detached' })
    await page.context().close()
  } finally {
    await world.ask('DELETE', '/v1/containers?id=late')
    endHandlers(join(world.daemon.folder, 'state'))
  }
})
