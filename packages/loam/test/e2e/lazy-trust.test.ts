// Lazy indexes that one store publishes in a real registry, and that another store trusts or not.
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { after, before, describe, test } from 'node:test'
import type { ImageInspection, IndexedImage } from '../../src/index.ts'
import { buildImage, buildTar, createKeyPair } from '../../src/testing/index.ts'
import { LazyWorld } from '../support/lazy-world.ts'
import { signIn } from '../support/sign-image.ts'
import { DebianRegistry, layoutOf, ok, World } from '../support/world.ts'

const text = randomBytes(1_500_000).toString('hex')
const image = buildImage({
  tars: [buildTar([{ name: 'file', data: text }]), buildTar([{ name: 'other', data: 'other' }])],
})
const key = createKeyPair()

function runSql(world: World, sql: string, ...values: readonly string[]) {
  using database = new DatabaseSync(join(world.root, 'metadata.db'))
  return database.prepare(sql).all(...values)
}

describe('the trust in lazy indexes', { timeout: 600_000 }, () => {
  let registry: DebianRegistry
  let name: string
  let published: IndexedImage

  before(async () => {
    registry = await DebianRegistry.start()
    name = `${registry.host}/app:1`
    using maker = new World()
    const layout = layoutOf(maker, image)
    ok(maker.loam('pull', layout))
    const { lazyIndexes } = JSON.parse(ok(maker.loam('--json', 'push', '--index', layout, name)).stdout) as {
      lazyIndexes: IndexedImage
    }
    const [first] = lazyIndexes.layers
    const profile = 'INSERT INTO profiles (diff_id, index_digest, spans) VALUES (?, ?, ?)'
    runSql(maker, profile, first?.diffId ?? '', first?.indexDigest ?? '', '2 1')
    published = JSON.parse(ok(maker.loam('--json', 'index', '--push', name)).stdout) as IndexedImage
    await signIn(registry.host, 'app', image.manifest.digest, key)
  })
  after(() => {
    registry[Symbol.dispose]()
  })

  /** Provisions lazily, and returns what the store says of the image. */
  const provision = (world: World, ...flags: readonly string[]): ImageInspection['lazy'] => {
    const { stdout } = ok(world.loam('provision', '--id', 'web', '--lazy', ...flags, name))
    assert.equal(readFileSync(join(stdout.trim(), 'file'), 'utf8'), text)
    assert.equal(readFileSync(join(stdout.trim(), 'other'), 'utf8'), 'other')
    ok(world.loam('destroy', 'web'))
    return (JSON.parse(ok(world.loam('inspect', name)).stdout) as ImageInspection).lazy
  }

  const policyOf = (world: World): string => {
    writeFileSync(world.path('team.pub'), key.publicPem)
    const scope = `[scope."${registry.host}"]\npolicy = "cosign"\nkeys = ["team.pub"]\n`
    writeFileSync(world.path('policy.toml'), `default = "reject"\n${scope}`)
    return `--signature-policy=${world.path('policy.toml')}`
  }

  const assertLazy = (lazy: ImageInspection['lazy'], trustedBy: string) => {
    assert.equal(lazy?.why, undefined)
    assert.deepEqual(
      lazy?.layers.map((layer) => [layer.diffId, layer.indexDigest, layer.trustedBy, layer.denied]),
      published.layers.map(({ diffId, indexDigest }) => [diffId, indexDigest, trustedBy, undefined]),
    )
  }

  test('an artifact that is not signed as its image is not used, and inspect says why', () => {
    using world = new LazyWorld()
    const lazy = provision(world, policyOf(world))
    assert.match(lazy?.why ?? '', /a lazy index of .* a signature is required, and it is not signed/)
    assert.deepEqual(lazy?.layers, [])
  })

  test('an image whose artifact is signed as it is itself is pulled lazily, with what others have read first', async () => {
    await signIn(registry.host, 'app', published.artifact ?? '', key)
    using world = new LazyWorld()
    assertLazy(provision(world, policyOf(world)), 'signed: key team.pub')
    const { diffId = '' } = published.layers[0] ?? {}
    const [row] = runSql(world, 'SELECT spans FROM profiles WHERE diff_id = ?', diffId)
    assert.match(String(row?.['spans']), /^2 1\b/)
  })

  test('without a signature policy nothing is trusted by default, and the digest of a request is if it is allowed', () => {
    {
      using world = new LazyWorld()
      assert.match(provision(world)?.why ?? '', /^lazy_trust is signed, and no signature policy requires/)
    }
    using world = new LazyWorld()
    const { artifact = '' } = published
    assertLazy(provision(world, '--lazy-trust=pinned', '--index-digest', artifact), 'pinned')
  })

  test('a request with credentials or TLS options of its own is pulled eagerly, and inspect says why', () => {
    using world = new LazyWorld()
    writeFileSync(world.path('auth.json'), '{"auths":{}}')
    for (const [why, ...flags] of [
      [/the request has credentials of its own/, '--authfile', world.path('auth.json')],
      [/the request has TLS options of its own/, '--insecure', registry.host],
    ] as const) {
      const lazy = provision(world, '--lazy-trust=repository', ...flags)
      assert.match(lazy?.why ?? '', why)
      assert.deepEqual(lazy?.layers, [])
      ok(world.loam('rmi', name))
      ok(world.loam('prune'))
    }
  })

  test('an image whose blobs are retained is pulled eagerly, and inspect says why', () => {
    using world = new LazyWorld()
    const lazy = provision(world, '--lazy-trust=repository', '--blob-retention=all')
    assert.match(lazy?.why ?? '', /^blob_retention is on/)
    assert.deepEqual(lazy?.layers, [])
  })

  test('an index that was denied is not used again, and fsck lists it', () => {
    using world = new LazyWorld()
    ok(world.loam('images'))
    const [index] = published.layers
    runSql(
      world,
      'INSERT INTO denied_indexes (index_digest, reason, denied_at) VALUES (?, ?, 1)',
      index?.indexDigest ?? '',
      'it lied',
    )
    const lazy = provision(world, '--lazy-trust=repository')
    assert.deepEqual(
      lazy?.layers.map(({ diffId, trustedBy }) => [diffId, trustedBy]),
      published.layers.slice(1).map(({ diffId }) => [diffId, 'repository']),
    )
    assert.match(
      ok(world.loam('fsck')).stdout,
      new RegExp(`lazy index ${index?.indexDigest} is denied: it lied`),
    )
  })
})
