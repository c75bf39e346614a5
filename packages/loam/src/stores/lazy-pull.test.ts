import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { digestOf, parseDiffId } from '../image/index.ts'
import type { LayerStore } from '../layers/index.ts'
import type { ImageRecord, LazySource } from '../metadata/index.ts'
import type { ImageSource } from '../sources/index.ts'
import { trustsStill } from './lazy-indexes.ts'
import { LazyPull } from './lazy-pull.ts'

const diffId = parseDiffId(digestOf(Buffer.from('layer')))
const blobDigest = digestOf(Buffer.from('blob'))
const [first, second] = [digestOf(Buffer.from('index 1')), digestOf(Buffer.from('index 2'))]
const layer = { diffId, blobDigest, blobBytes: 4, blobMediaType: 'application/vnd.oci.image.layer.v1.tar' }
const known: LazySource = {
  diffId,
  blob: { digest: blobDigest, mediaType: layer.blobMediaType, sizeBytes: 4 },
  reference: 'registry.test/team1/app:1',
  indexDigest: first,
  trustedBy: 'signed: key 1',
}
const enforcer = { requiresSignature: () => true, checkAsked: () => undefined, admit: async () => [] }

describe('partial layers that another request has created', () => {
  /** Plans an image that has the layer, whose search finds the index `found`. */
  const plan = async (found: typeof first | undefined) => {
    let searches = 0
    const layers = {
      isHereLazily: () => true,
      partial: {
        sourceOf: () => known,
        whyNever: () => undefined,
        whyOff: async () => undefined,
        warmUp: () => undefined,
      },
    } as unknown as LayerStore
    const source = { name: 'registry.test/team2/app:1', isRemote: true } as ImageSource
    using pull = new LazyPull(source, {
      layers,
      find: async () => {
        searches += 1
        if (found === undefined) return { kind: 'none', why: 'it has no index' }
        const index = { indexDigest: found, trustedBy: 'signed: key 2', bytes: async () => Buffer.alloc(0) }
        return { kind: 'found', indexes: new Map([[diffId, index]]) }
      },
      trustsStill: (...args) => trustsStill(args[0], args[1], { trust: 'signed', enforcer }, args[2]),
      annotationsOf: undefined,
      whyEager: undefined,
      retainsBlobs: false,
    })
    const image = { digest: blobDigest, layers: [layer] } as unknown as ImageRecord
    const { trusts, why } = await pull.plan(image, {})
    return { searches, isTrusted: trusts(known), why }
  }

  test('a partial layer is used by another request that finds the same index, and by none else', async () => {
    assert.deepEqual(await plan(first), { searches: 1, isTrusted: true, why: undefined })
    assert.deepEqual(await plan(second), { searches: 1, isTrusted: false, why: undefined })
    assert.deepEqual(await plan(undefined), { searches: 1, isTrusted: false, why: 'it has no index' })
  })

  test('an index is trusted without a search by a rule that is allowed still, for the same name or as a file of the directory', () => {
    const { reference } = known
    const ask = (
      trustedBy: string,
      name: string,
      trust: 'signed' | 'own' | 'repository',
      hasPolicy = false,
    ) =>
      trustsStill({ trustedBy, reference }, { name }, { trust, enforcer: hasPolicy ? enforcer : undefined })
    assert.equal(ask('repository', reference, 'repository'), true)
    assert.equal(ask('repository', reference, 'signed'), false, 'the setting is stricter now')
    assert.equal(ask('repository', 'registry.test/team2/app:1', 'repository'), false, 'another image')
    assert.equal(ask('repository', reference, 'repository', true), false, 'a policy has its say')
    assert.equal(ask('pinned', reference, 'own'), true)
    assert.equal(ask('own', 'registry.test/team2/app:1', 'own', true), true)
    assert.equal(ask('own', reference, 'signed'), false)
    assert.equal(ask('signed: key 1', reference, 'repository', true), false, 'its keys may have changed')
    const inBlob = 'the manifest of the image (zstd:chunked)'
    assert.equal(ask(inBlob, reference, 'signed'), true)
    assert.equal(ask(inBlob, 'registry.test/team2/app:1', 'repository'), false, 'another manifest')
    const pinned = trustsStill(
      { trustedBy: 'own', reference },
      { name: reference },
      { trust: 'own', enforcer: undefined },
      { pin: first },
    )
    assert.equal(pinned, false, 'the request means another index')
  })
})
