import assert from 'node:assert/strict'
import { afterEach, beforeEach, describe, test } from 'node:test'
import { digestOf, MEDIA_TYPES, parseReference } from '../image/index.ts'
import { buildImage, buildTar, RegistryServer } from '../testing/index.ts'
import { RegistryClient } from './client.ts'

const { manifest, mediaType } = buildImage({ tars: [buildTar([])], compression: 'none' })
const bytes = Buffer.from(JSON.stringify({ schemaVersion: 2, manifests: [] }))
const index = { bytes, digest: digestOf(bytes) }

describe('what a registry has under a name before a push', () => {
  let registry: RegistryServer
  let client: RegistryClient
  beforeEach(async () => {
    registry = await RegistryServer.start()
    registry.addManifest('app', 'one', manifest, mediaType)
    registry.addManifest('app', 'many', index, MEDIA_TYPES.ociIndex)
    client = new RegistryClient({
      insecure: [],
      certsDirs: [],
      proxy: { httpProxy: '', httpsProxy: '', noProxy: '' },
      stallTimeoutMs: 5000,
      connectTimeoutMs: 5000,
      retry: { tries: 1, baseMs: 1, waitMs: 1 },
      manifestBytes: 4 << 20,
      credentials: { find: async () => undefined },
    })
  })
  afterEach(async () => {
    await client[Symbol.asyncDispose]()
    await registry[Symbol.asyncDispose]()
  })

  const find = async (name: string) => client.findPushed(parseReference(`${registry.host}/app${name}`))
  const answerHead = (status: number, headers: Record<string, string>) => {
    registry.intercept = (request, response) => {
      if (request.method !== 'HEAD') return false
      response.writeHead(status, headers).end()
      return true
    }
  }

  test('is read where the answer to HEAD does not tell its digest and its type', async () => {
    const answers = [
      ...[400, 405, 501].map((status) => [status, {}] as const),
      [200, {}],
      [200, { 'docker-content-digest': digestOf(Buffer.from('x')) }],
      ...['application/json', 'application/octet-stream', 'Text/Plain; charset=utf-8'].map(
        (type) =>
          [200, { 'content-type': type, 'docker-content-digest': digestOf(Buffer.from('x')) }] as const,
      ),
      [200, { 'content-type': mediaType }],
    ] as const
    for (const [status, headers] of answers) {
      answerHead(status, headers)
      const what = JSON.stringify([status, headers])
      assert.deepEqual(await find(':many'), { digest: index.digest, isIndex: true }, what)
      assert.deepEqual(await find(':one'), { digest: manifest.digest, isIndex: false }, what)
      assert.equal(await find(':none'), undefined, what)
    }
    answerHead(405, {})
    assert.equal((await find(`@${index.digest}`))?.digest, index.digest)
    assert.equal(await find(`@${digestOf(Buffer.from('none'))}`), undefined)
  })

  test('is told by HEAD alone where it has both', async () => {
    const digest = digestOf(Buffer.from('x'))
    for (const [type, isIndex] of [
      [MEDIA_TYPES.dockerList, true],
      [`${MEDIA_TYPES.ociIndex}; charset=utf-8`, true],
      [mediaType, false],
      ['application/vnd.example', false],
    ] as const) {
      answerHead(200, { 'content-type': type, 'docker-content-digest': digest })
      assert.deepEqual(await find(':many'), { digest, isIndex })
    }
    answerHead(404, {})
    assert.equal(await find(':many'), undefined)
    answerHead(403, {})
    await assert.rejects(find(':many'), { code: 'REGISTRY_DENIED' })
    assert.ok(registry.requests.every((request) => !request.startsWith('GET /v2/app/')))
  })
})
