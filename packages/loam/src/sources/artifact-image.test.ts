import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { gzipSync } from 'node:zlib'
import { isLoamError } from '../errors/index.ts'
import { type Digest, MEDIA_TYPES } from '../image/index.ts'
import { DEFAULT_LAYER_LIMITS } from '../tree/index.ts'
import { filesOfArtifact } from './artifact-image.ts'
import { storeBlob } from './blob-file.ts'

const ENCRYPTED = `${MEDIA_TYPES.ociLayerGzip}+encrypted`

function filesOf(config: string, ...layers: readonly { mediaType?: string; title?: string }[]): number {
  const blob = (letter: string, mediaType: string | undefined, title?: string) => ({
    mediaType,
    digest: `sha256:${letter.repeat(64)}`,
    size: 10,
    ...(title === undefined ? {} : { annotations: { 'org.opencontainers.image.title': title } }),
  })
  const manifest = {
    schemaVersion: 2,
    mediaType: MEDIA_TYPES.ociManifest,
    config: blob('a', config),
    layers: layers.map(({ mediaType, title }) => blob('b', mediaType, title)),
  }
  return filesOfArtifact(Buffer.from(JSON.stringify(manifest)), 'the manifest')?.length ?? 0
}

test('an image with a layer of an unknown type or of none is not an artifact', () => {
  const layer = { mediaType: MEDIA_TYPES.ociLayerGzip }
  assert.equal(filesOf(MEDIA_TYPES.ociConfig, layer, { mediaType: ENCRYPTED }), 0)
  assert.equal(filesOf(MEDIA_TYPES.ociConfig, { ...layer, title: 'a' }, { mediaType: ENCRYPTED }), 0)
  assert.equal(filesOf(MEDIA_TYPES.ociConfig, layer, {}), 0)
  assert.equal(filesOf(MEDIA_TYPES.ociConfig, { ...layer, title: 'a.tar' }), 0)
})

test('blobs with names beside the config of an image are files, and so is each blob beside any other config', () => {
  const layer = { mediaType: MEDIA_TYPES.ociLayerGzip, title: 'dir' }
  const file = { mediaType: 'application/octet-stream', title: 'file' }
  assert.equal(filesOf(MEDIA_TYPES.ociConfig, layer, file), 2)
  assert.equal(filesOf('application/vnd.oci.empty.v1+json', { mediaType: MEDIA_TYPES.ociLayer }), 1)
})

const folder = mkdtempSync(join(tmpdir(), 'loam-artifact-'))
test.after(() => {
  rmSync(folder, { recursive: true })
})

/** 128 MiB of zeros in 128 KiB. */
const bomb = gzipSync(Buffer.alloc(128 << 20), { level: 9 })
const digest = `sha256:${createHash('sha256').update(bomb).digest('hex')}` as Digest

async function* once(): AsyncGenerator<Buffer> {
  yield Buffer.from(bomb)
}

test('other work has its turns while a small blob with many bytes is hashed', async () => {
  let turns = 0
  let isDone = false
  const count = () => {
    turns += 1
    if (!isDone) setImmediate(count)
  }
  setImmediate(count)
  await storeBlob(once(), digest, join(folder, 'turns'), {})
  isDone = true
  assert.ok(turns > 100, `${turns}`)
})

test('a blob that is larger than the limit of a layer is refused while it is hashed', async () => {
  for (const [limits, setting] of [
    [{ ...DEFAULT_LAYER_LIMITS, tarBytes: 20 << 20 }, /limit_layer_bytes/],
    [{ ...DEFAULT_LAYER_LIMITS, ratio: 300 }, /limit_layer_ratio/],
  ] as const)
    await assert.rejects(
      storeBlob(once(), digest, join(folder, `limits-${limits.ratio}`), { limits }),
      (error) => isLoamError(error, 'LAYER_LIMIT') && setting.test(error.message),
    )
})

test('a cancel ends the hashing of a blob', async () => {
  const stop = new AbortController()
  async function* canceledAtEnd() {
    yield* once()
    setTimeout(() => {
      stop.abort()
    }, 1)
  }
  await assert.rejects(
    storeBlob(canceledAtEnd(), digest, join(folder, 'canceled'), { signal: stop.signal }),
    (error) => isLoamError(error, 'CANCELED'),
  )
})
