import assert from 'node:assert/strict'
import { test } from 'node:test'
import { isLoamError } from '../errors/index.ts'
import { digestOf, parseDiffId } from './digest.ts'
import {
  formatLazyArtifact,
  formatLazyProfile,
  type LazyArtifact,
  lazyArtifactTag,
  MEDIA_TYPES,
  parseLazyArtifact,
  parseLazyProfile,
  parseManifestDocument,
  uniteSpans,
} from './index.ts'

const [image, blob, diffId, index, profile] = ['image', 'blob', 'tar', 'index', 'profile'].map((text) =>
  digestOf(Buffer.from(text)),
)

const ARTIFACT: LazyArtifact = {
  subject: { mediaType: MEDIA_TYPES.dockerManifest, digest: image!, sizeBytes: 7 },
  layers: [{ blob: blob!, diffId: parseDiffId(diffId), index: { digest: index!, sizeBytes: 9 } }],
  profile: { digest: profile!, sizeBytes: 3 },
}

function change(edit: (json: Record<string, unknown>) => void): Buffer {
  const json = JSON.parse(formatLazyArtifact(ARTIFACT, 'test').toString()) as Record<string, unknown>
  edit(json)
  return Buffer.from(JSON.stringify(json))
}

test('an artifact of lazy indexes is read as it was written, and is not taken for an image', () => {
  const bytes = formatLazyArtifact(ARTIFACT, 'test')
  assert.deepEqual(parseLazyArtifact(bytes, 'artifact'), ARTIFACT)
  const without = { ...ARTIFACT, profile: undefined }
  assert.deepEqual(parseLazyArtifact(formatLazyArtifact(without, 'test'), 'artifact'), without)
  assert.throws(
    () => parseManifestDocument(bytes, undefined, 'artifact'),
    (error) => isLoamError(error, 'MEDIA_TYPE_UNSUPPORTED'),
  )
})

test('the bytes of an artifact of lazy indexes do not change, so that signatures stay valid', () => {
  assert.equal(
    digestOf(formatLazyArtifact(ARTIFACT, 'loam')),
    'sha256:992d2b480bfce0616a99f5046dfcbf9df122d15ff9ddf503746b6d01c0d46592',
  )
})

test('layers of unknown types of an artifact are left out, and one that does not name its layer is refused', () => {
  const other = change((json) =>
    (json['layers'] as unknown[]).push({ mediaType: 'x/y', digest: blob, size: 1 }),
  )
  assert.deepEqual(parseLazyArtifact(other, 'artifact'), ARTIFACT)
  for (const wrong of [
    change((json) => (json['artifactType'] = 'x/y')),
    change((json) => (json['config'] = { mediaType: MEDIA_TYPES.ociConfig, digest: blob, size: 1 })),
    change((json) => delete json['subject']),
    change((json) => delete (json['layers'] as Record<string, unknown>[])[0]!['annotations']),
    change((json) => ((json['layers'] as Record<string, unknown>[])[0]!['size'] = -1)),
    Buffer.from('[]'),
  ])
    assert.throws(
      () => parseLazyArtifact(wrong, 'artifact'),
      (error) => isLoamError(error, 'DOCUMENT_INVALID'),
    )
})

test('the tag of an artifact is one that every registry takes, whatever algorithm the digest has', () => {
  assert.equal(lazyArtifactTag(image!), `sha256-${image!.slice(7)}.loam`)
  assert.ok(lazyArtifactTag(digestOf(Buffer.from('x'), 'sha512')).length <= 128)
})

test('a profile is read as it was written, within bounds', () => {
  const spans = new Map([
    [index!, [4, 0, 9]],
    [blob!, []],
  ])
  assert.deepEqual(parseLazyProfile(formatLazyProfile(spans), 'profile'), spans)
  const layer = (entry: object) => Buffer.from(JSON.stringify({ version: 1, layers: [entry] }))
  for (const wrong of [
    layer({ index, spans: [-1] }),
    layer({ index, spans: [0.5] }),
    layer({ index: 'x', spans: [] }),
    layer({ index, spans: Array.from({ length: 4097 }, (_, span) => span) }),
    Buffer.from('{"version":2,"layers":[]}'),
  ])
    assert.throws(
      () => parseLazyProfile(wrong, 'profile'),
      (error) => isLoamError(error, 'DOCUMENT_INVALID'),
    )
  assert.deepEqual(uniteSpans([4, 2], [3, 2, 1]), [4, 2, 3, 1])
})
