import assert from 'node:assert/strict'
import { after, before, beforeEach, describe, test } from 'node:test'
import { parseReference } from '../image/index.ts'
import { RegistryServer } from '../testing/index.ts'
import { RegistryClient } from './client.ts'
import type { TagBounds } from './tags.ts'

describe('the tags of a repository', () => {
  let registry: RegistryServer
  let pages: Record<string, { readonly tags: unknown; readonly link?: string | string[] }>
  before(async () => {
    registry = await RegistryServer.start()
    registry.intercept = (request, response) => {
      const page = pages[request.url ?? '']
      if (page === undefined) return false
      if (page.link !== undefined) response.setHeader('link', page.link)
      response.end(JSON.stringify({ name: 'app', tags: page.tags }))
      return true
    }
  })
  beforeEach(() => {
    pages = {}
    registry.requests.length = 0
  })
  after(async () => registry[Symbol.asyncDispose]())

  const list = async (bounds: TagBounds = {}) => {
    await using client = new RegistryClient({
      insecure: [],
      certsDirs: [],
      proxy: { httpProxy: '', httpsProxy: '', noProxy: '' },
      stallTimeoutMs: 5000,
      connectTimeoutMs: 5000,
      retry: { tries: 1, baseMs: 1, waitMs: 1 },
      manifestBytes: 4 << 20,
      credentials: { find: async () => undefined },
    })
    const reference = parseReference(`${registry.host}/app`)
    return await client.listTags(reference, bounds)
  }

  test('come from all pages, in the order of the registry', async () => {
    pages = {
      '/v2/app/tags/list?n=1000': { tags: ['b', 'a'], link: '</v2/app/tags/list?last=a&n=1000>; rel="next"' },
      '/v2/app/tags/list?last=a&n=1000': { tags: ['c'], link: '/v2/app/tags/list?last=c; rel=next' },
      '/v2/app/tags/list?last=c': { tags: ['d'] },
    }
    assert.deepEqual(await list(), ['b', 'a', 'c', 'd'])
    assert.deepEqual(await list({ maxPages: 1 }), ['b', 'a'])
  })

  test('come from all pages in whatever legal form the registry links them', async () => {
    const next = '/v2/app/tags/list?last=a,b'
    for (const link of [
      ['</self>; rel="self"', `<${next}>; rel="next"`],
      `</self>; rel=self, <${next}>; rel=next`,
      `<${next}>; rel="next last"`,
      `<${next}> ; REL = "last\tNext"`,
      `<${next}>; title="a;b, \\"c\\" <d>"; rel="next"; n`,
      `,, <${next}>;;rel="ne\\xt",`,
      `</self>; "?", <${next}>; rel=next; rel=last`,
      `</first>; rel=first,${next}; rel=next`,
    ]) {
      pages = { '/v2/app/tags/list?n=1000': { tags: ['a'], link }, [next]: { tags: ['b'] } }
      assert.deepEqual(await list(), ['a', 'b'], String(link))
    }
    for (const link of [
      '</x>; rel="nextly"',
      '</x>; rel=last; rel=next',
      '</x>; title="; rel=next"',
      '</x>',
    ]) {
      pages = { '/v2/app/tags/list?n=1000': { tags: ['a'], link } }
      assert.deepEqual(await list(), ['a'], link)
    }
  })

  test('come from a Link field of any size in linear time', async () => {
    for (const part of ['</x>;rel="', ' ', ',', ';', '</x>;a=b,', '\\"', '<'].map((text) =>
      text.repeat(12_000 / text.length),
    )) {
      pages = { '/v2/app/tags/list?n=1000': { tags: ['a'], link: `<x>; ${part}` } }
      assert.deepEqual(await list(), ['a'])
    }
  })

  test('end at a page that was read before, as of a registry that repeats itself', async () => {
    pages['/v2/app/tags/list?n=1000'] = { tags: ['a'], link: '</v2/app/tags/list?n=1000>; rel="next"' }
    assert.deepEqual(await list(), ['a'])
    assert.equal(registry.requests.length, 2)
  })

  test('go on behind a page that brings nothing new', async () => {
    pages = {
      '/v2/app/tags/list?n=1000': { tags: ['a'], link: '</v2/app/tags/list?last=a>; rel="next"' },
      '/v2/app/tags/list?last=a': { tags: [], link: '</v2/app/tags/list?last=m>; rel="next"' },
      '/v2/app/tags/list?last=m': { tags: ['n'] },
    }
    assert.deepEqual(await list(), ['a', 'n'])
  })

  test('of a registry whose pages never end are an error', async (t) => {
    const { intercept } = registry
    t.after(() => (registry.intercept = intercept))
    registry.intercept = (request, response) => {
      const page = Number(new URL(request.url ?? '', 'http://x').searchParams.get('last') ?? '0')
      response.setHeader('link', `</v2/app/tags/list?last=${page + 1}>; rel="next"`)
      response.end('{"tags": ["a"]}')
      return true
    }
    await assert.rejects(list(), { code: 'REGISTRY_RESPONSE', message: /more than 1000 pages/ })
  })

  test('are bounded by the bytes of a page, and of all pages', async () => {
    const tags = Array.from({ length: 100 }, (_tag, index) => `tag-${index}`)
    const link = '</v2/app/tags/list?last=a>; rel="next"'
    pages = { '/v2/app/tags/list?n=1000': { tags, link }, '/v2/app/tags/list?last=a': { tags } }
    const pageBytes = JSON.stringify({ name: 'app', tags }).length
    assert.equal((await list({ maxBytes: 2 * pageBytes })).length, 100)
    for (const maxBytes of [2 * pageBytes - 1, pageBytes - 1])
      await assert.rejects(list({ maxBytes }), { code: 'DOCUMENT_TOO_LARGE' })
    assert.equal((await list({ maxBytes: pageBytes, maxPages: 1 })).length, 100)
  })

  test('come also from a registry that has one page for all', async () => {
    const tags = Array.from({ length: 100_000 }, (_tag, index) => `build-${index}`)
    pages['/v2/app/tags/list?n=1000'] = { tags }
    assert.deepEqual(await list(), tags)
  })

  test('of one page are bounded as a manifest, and all are bounded by their number', async () => {
    pages['/v2/app/tags/list?n=1000'] = { tags: ['a'.repeat(4 << 20)] }
    await assert.rejects(list(), { code: 'DOCUMENT_TOO_LARGE' })
    const tags = (page: number) => Array.from({ length: 125_001 }, (_tag, index) => `${page}-${index}`)
    pages = {
      '/v2/app/tags/list?n=1000': { tags: tags(1), link: '</v2/app/tags/list?last=a>; rel="next"' },
      '/v2/app/tags/list?last=a': { tags: tags(2) },
    }
    await assert.rejects(list(), { code: 'REGISTRY_RESPONSE', message: /more than 250000 tags/ })
  })

  test('are only texts that an image can be named by', async () => {
    pages['/v2/app/tags/list?n=1000'] = {
      tags: ['a', '', 'b\n', 'é', '-c', 'x'.repeat(128), 'x'.repeat(129), 'a b', '_1.0-rc'],
    }
    assert.deepEqual(await list(), ['a', 'x'.repeat(128), '_1.0-rc'])
  })

  test('are none where the registry has null for them', async () => {
    pages['/v2/app/tags/list?n=1000'] = { tags: null }
    assert.deepEqual(await list(), [])
  })

  test('of a repository that does not exist are an error', async () => {
    await assert.rejects(list(), { code: 'IMAGE_NOT_FOUND' })
  })
})
