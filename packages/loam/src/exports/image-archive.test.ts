import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { SequentialWriter } from '../content/index.ts'
import { digestOf, MEDIA_TYPES } from '../image/index.ts'
import { writeImageArchive } from './image-archive.ts'

test('an archive whose writing is canceled in a blob, or behind the last one, is not complete', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'loam-archive-'))
  t.after(() => {
    rmSync(folder, { recursive: true })
  })
  const chunk = Buffer.alloc(1 << 20)
  const digest = digestOf(Buffer.concat([chunk, chunk]))
  for (const canceledAt of [1, 2]) {
    const canceling = new AbortController()
    let read = 0
    const open = async function* () {
      for (let part = 0; part < 2; part += 1) {
        read += 1
        if (read === canceledAt) canceling.abort()
        yield Promise.resolve(chunk)
      }
    }
    const openFile = (path: string) => new SequentialWriter(path)
    const output = { target: join(folder, String(canceledAt)), openFile, signal: canceling.signal }
    const blob = { mediaType: MEDIA_TYPES.ociLayer, digest, sizeBytes: 2 * chunk.length }
    const writing = writeImageArchive('oci-archive', output, async (sink) => sink.putBlob(blob, open))
    await assert.rejects(writing, { code: 'CANCELED' })
    assert.equal(read, canceledAt)
  }
})
