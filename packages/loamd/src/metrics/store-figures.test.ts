import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { mock, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { openLoam } from 'loamfs'
import { buildImage, buildTar, writeOciLayout } from 'loamfs/testing'
import { Registry } from 'prom-client'
import { Log } from '../log.ts'
import { StoreFigures } from './store-figures.ts'

test('a scrape counts the images and does not read their documents', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'loam-figures-'))
  try {
    const flags = { root: join(folder, 'root'), state: join(folder, 'state') }
    await using loam = await openLoam({ flags, file: null, env: {} })
    for (const data of ['a', 'b']) {
      const image = buildImage({ tars: [buildTar([{ name: 'file', data }])] })
      writeOciLayout(join(folder, data), { latest: image })
      await loam.pull(`oci:${join(folder, data)}:latest`)
    }
    const list = mock.method(loam.images, 'list')
    const registry = new Registry()
    const figures = new StoreFigures({ loam, log: new Log('error', () => undefined), registry })
    figures.refresh()
    while (!/^loam_images \d/m.test(await registry.metrics())) await sleep(5)
    assert.match(await registry.metrics(), /^loam_images 2$/m)
    assert.equal(list.mock.callCount(), 0)
  } finally {
    rmSync(folder, { recursive: true })
  }
})
