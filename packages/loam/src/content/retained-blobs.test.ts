import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { mkdtempSync, readdirSync, rmSync, utimesSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, test } from 'node:test'
import { digestOf } from '../image/index.ts'
import type { PartialBlob } from './partial-blob.ts'
import { type BlobRetention, RetainedBlobs } from './retained-blobs.ts'
import type { StorePaths } from './store-paths.ts'

describe('retained blobs', () => {
  let folder: string
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'loam-retained-'))
  })
  afterEach(() => {
    rmSync(folder, { recursive: true })
  })

  const create = (retention: Partial<BlobRetention>) =>
    new RetainedBlobs({ retained: folder } as StorePaths, {
      mode: 'all',
      maxAgeMs: 60_000,
      maxBytes: 25,
      ...retention,
    })
  const digest = (name: string) => digestOf(Buffer.from(name))
  const fileOf = (name: string) => join(folder, digest(name).replace(':', '-'))
  /** A received blob of 10 bytes. */
  const received = {
    moveTo: (path: string) => {
      writeFileSync(path, Buffer.alloc(10))
      return true
    },
  } as unknown as PartialBlob
  const adopt = async (blobs: RetainedBlobs, ...names: readonly string[]) => {
    for (const name of names) {
      await blobs.adopt(received, digest(name), 10)
      // The order of their times is that of their adoption.
      utimesSync(fileOf(name), new Date(), new Date(Date.now() - 1000 + 10 * readdirSync(folder).length))
    }
  }

  test('a pipe in the place of a blob is not held, and not waited for', () => {
    execFileSync('mkfifo', [fileOf('pipe')])
    assert.equal(create({}).hold(digest('pipe'), 0), undefined)
  })

  test('with `time` a pull removes blobs that are too old', async () => {
    await adopt(create({ mode: 'all' }), 'old', 'young')
    utimesSync(fileOf('old'), 1, 1)
    await adopt(create({ mode: 'time' }), 'new')
    assert.deepEqual(
      readdirSync(folder).toSorted(),
      ['young', 'new'].map((name) => digest(name).replace(':', '-')).toSorted(),
    )
  })

  test('with `size` the total stays below the limit, and blobs are listed only when it may be exceeded', async () => {
    const blobs = create({ mode: 'size', maxBytes: 10_000 })
    let listed = 0
    const list = blobs.list.bind(blobs)
    blobs.list = () => {
      listed += 1
      return list()
    }
    for (let index = 0; index < 50; index += 1) await blobs.adopt(received, digest(`${index}`), 10)
    assert.equal(listed, 1)
    await adopt(create({ mode: 'size' }), 'last')
    assert.equal(readdirSync(folder).length, 2)
  })
})
