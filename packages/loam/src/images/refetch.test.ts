import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { LoamError } from '../errors/index.ts'
import { digestOf } from '../image/index.ts'
import type { ImageRecord } from '../metadata/index.ts'
import { createRefetch } from './refetch.ts'

describe('a part of an image is refetched from one of its sources', () => {
  const digest = digestOf(Buffer.from('image'))
  const image = { digest, type: 'docker' } as ImageRecord
  const names = ['oci:/layout:t', 'localhost/e:1']

  /** Refetches a document; `answers` has what each source fails with, or undefined. */
  const refetch = async (answers: readonly (Error | undefined)[]) => {
    const asked: string[] = []
    const services = {
      paths: { root: '/store' },
      metadata: {
        images: {
          namesOf: () => names.map((reference) => ({ reference, imageDigest: digest, givenBy: 'user' })),
        },
        containers: { rootfses: () => [] },
      },
      stores: { docker: { refetchDocument: async () => undefined } },
      sources: {
        parse: (reference: string) => ({ name: reference }),
        with: async (name: string, _options: unknown, act: (source: unknown) => Promise<void>) => {
          asked.push(name)
          const error = answers[names.indexOf(name)]
          if (error !== undefined) throw error
          await act({})
        },
      },
    } as unknown as Parameters<typeof createRefetch>[0]
    const { refetchDocument } = createRefetch(services, {})
    const found = refetchDocument(image, digest, undefined)
    return { asked, found, ...(await Promise.allSettled([found]))[0] }
  }
  const refused = new LoamError('REGISTRY_UNREACHABLE', 'get blob of e: connect ECONNREFUSED')
  const missing = new LoamError('IMAGE_NOT_FOUND', 'read /layout: it has no t')
  const inStore = Object.assign(new Error('EISDIR: is a directory'), {
    code: 'EISDIR',
    path: '/store/blobs/x',
  })

  test('a source that fails is skipped, and if all fail, the error of each is shown', async () => {
    const { asked, found } = await refetch([missing, undefined])
    assert.deepEqual([asked, await found], [names, names[1]])
    const { found: failed } = await refetch([missing, refused])
    await assert.rejects(failed, {
      code: 'IMAGE_NOT_FOUND',
      message: `${names[0]}: ${missing.message}; ${names[1]}: ${refused.message}`,
    })
  })

  test('an error of the store itself ends the search, and is the one that is shown', async () => {
    for (const error of [inStore, new LoamError('NO_SPACE', 'write blob: no space left')]) {
      const { asked, found } = await refetch([error, refused])
      assert.deepEqual(asked, [names[0]])
      await assert.rejects(found, (shown: Error) => shown.message.includes(error.message))
    }
  })
})
