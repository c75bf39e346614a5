import assert from 'node:assert/strict'
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { RetainedBlobs, sweepRetained } from '../content/index.ts'
import { writeOciLayout } from '../exports/oci-layout.ts'
import { MEDIA_TYPES } from '../image/index.ts'
import { buildImage, buildTar } from '../testing/index.ts'
import { findOriginal } from './original-image.ts'

test('a retained blob that a pull removes from a full disk, right after it was verified, is still exported', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'loam-original-'))
  try {
    const { layers, manifest, config } = buildImage({ tars: [buildTar([{ name: 'f', data: 'x' }])] })
    const [{ digest, bytes } = assert.fail()] = layers
    const paths = { retained: join(folder, 'retained') } as Parameters<typeof sweepRetained>[0]
    mkdirSync(paths.retained)
    writeFileSync(join(paths.retained, digest.replace(':', '-')), bytes)
    const trees = {
      hasDigest: async (path: string) => {
        const isRight = readFileSync(path).equals(bytes)
        await sweepRetained(paths)
        return isRight
      },
    }
    const services = {
      layers: { trees },
      retained: new RetainedBlobs(paths, { mode: 'all', maxAgeMs: 0, maxBytes: 0 }),
    } as unknown as Parameters<typeof findOriginal>[0]
    const stored = {
      manifest: manifest.bytes,
      record: {
        digest: manifest.digest,
        configDigest: config.digest,
        mediaType: MEDIA_TYPES.ociManifest,
        layers: [{ diffId: '', blobDigest: digest, blobBytes: bytes.length }],
      },
    } as unknown as Parameters<typeof findOriginal>[1]
    const image = {
      name: 'app',
      readConfig: () => config.bytes,
      findOriginal: async () => findOriginal(services, stored, undefined),
    }
    const layout = join(folder, 'layout')
    await writeOciLayout(layout, image, [], { copy: async (from, to) => copyFileSync(from, to) })
    assert.deepEqual(readFileSync(join(layout, 'blobs', digest.replace(':', '/'))), bytes)
  } finally {
    rmSync(folder, { recursive: true })
  }
})
