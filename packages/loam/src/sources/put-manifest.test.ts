import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { digestOf, MEDIA_TYPES, parseReference } from '../image/index.ts'
import { RegistryClient } from '../registry/index.ts'
import { RegistryServer } from '../testing/index.ts'
import { putManifest } from './put-manifest.ts'
import { findReferrers } from './referrers.ts'
import { findSignatures } from './signatures.ts'

const mediaType = MEDIA_TYPES.ociManifest
const manifestOf = (subject: unknown) => {
  const config = { mediaType: 'application/x-config', digest: digestOf(Buffer.from('{}')), size: 2 }
  const bytes = Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType, config, layers: [], subject }))
  return { bytes, digest: digestOf(bytes), mediaType }
}

/** Starts a registry that takes manifests and has no referrers API. */
async function start(certsDirs: string[] = []) {
  const server = await RegistryServer.start()
  server.intercept = (request, response) => {
    const [, name = ''] = /^\/v2\/app\/manifests\/(.*)$/.exec(request.url ?? '') ?? []
    if (request.method !== 'PUT') return false
    const chunks: Buffer[] = []
    request.on('data', (chunk: Buffer) => chunks.push(chunk))
    request.on('end', () => {
      const bytes = Buffer.concat(chunks)
      const type = request.headers['content-type'] ?? ''
      server.addManifest('app', name, { bytes, digest: digestOf(bytes) }, type)
      response.writeHead(201).end()
    })
    return true
  }
  const client = new RegistryClient({
    credentials: { find: async () => undefined },
    insecure: [],
    certsDirs,
    proxy: { httpProxy: '', httpsProxy: '', noProxy: '' },
    stallTimeoutMs: 5000,
    connectTimeoutMs: 5000,
    retry: { tries: 1, baseMs: 5, waitMs: 0 },
    manifestBytes: 1 << 20,
  })
  const reference = parseReference(`${server.host}/app:1`)
  const tags = (method: string) =>
    server.requests.filter((each) => each.startsWith(`${method} `)).map((each) => each.split('/').at(-1))
  return {
    server,
    client,
    reference,
    tags,
    [Symbol.asyncDispose]: async () => {
      await client[Symbol.asyncDispose]()
      await server[Symbol.asyncDispose]()
    },
  }
}

describe('a manifest that is about another one', () => {
  test('is uploaded without a list of referrers if its subject cannot be read', async () => {
    await using registry = await start()
    const subjects = [{}, { digest: `sha384:${'a'.repeat(96)}` }, { digest: 5 }, 'text', null, undefined]
    for (const subject of subjects) await putManifest(registry, manifestOf(subject), undefined)
    assert.deepEqual(
      registry.tags('PUT'),
      subjects.map(() => '1'),
    )
  })

  test('is added to the list of the registry itself, and not to that of a mirror', async () => {
    const certs = mkdtempSync(join(tmpdir(), 'loam-certs-'))
    try {
      await using mirror = await RegistryServer.start()
      await using registry = await start([certs])
      const { client, reference, server } = registry
      mkdirSync(join(certs, server.host))
      writeFileSync(
        join(certs, server.host, 'hosts.toml'),
        `server = "http://${server.host}"\n[host."http://${mirror.host}"]\n`,
      )
      const subject = digestOf(Buffer.from('subject'))
      const [old, present, added] = [1, 2, 3].map((size) => manifestOf({ mediaType, digest: subject, size }))
      const list = (on: RegistryServer, { digest }: { digest: string }) => {
        const manifests = [{ mediaType, digest, size: 7, kept: true }]
        const bytes = Buffer.from(JSON.stringify({ schemaVersion: 2, manifests }))
        const name = subject.replace(':', '-')
        on.addManifest('app', name, { bytes, digest: digestOf(bytes) }, MEDIA_TYPES.ociIndex)
      }
      list(mirror, old!)
      list(server, present!)
      await putManifest(registry, added!, undefined)
      assert.deepEqual(mirror.requests, [])
      const found = await findReferrers(client, reference, [subject])
      assert.deepEqual(
        found.map(({ digest }) => digest),
        [present!.digest, added!.digest],
      )
    } finally {
      rmSync(certs, { recursive: true })
    }
  })

  test('is found where it was listed, whatever the algorithm of the digest', async () => {
    for (const algorithm of ['sha256', 'sha512'] as const) {
      await using registry = await start()
      const { client, reference, tags } = registry
      const subject = digestOf(Buffer.from('subject'), algorithm)
      const manifest = manifestOf({ mediaType, digest: subject, size: 7 })
      await putManifest(registry, manifest, undefined)
      assert.deepEqual(tags('PUT'), ['1', `${algorithm}-${subject.slice(7, 71)}`])
      const found = await findReferrers(client, reference, [subject])
      assert.deepEqual(
        found.map(({ digest }) => digest),
        [manifest.digest],
      )
      for await (const _signature of findSignatures(client, reference, [subject]));
      const isValid = (tag = '') => tag.includes(':') || tag.length <= 128
      assert.deepEqual(
        tags('GET').filter((tag) => !isValid(tag)),
        [],
      )
    }
  })
})
