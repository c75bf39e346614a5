import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { gzipSync, zstdCompressSync } from 'node:zlib'
import * as fc from 'fast-check'
import { type ErrorCode, isLoamError } from '../errors/index.ts'
import { digestOf, parseDiffId } from '../image/index.ts'
import { hasIsal } from '../compression/index.ts'
import { hasZstd } from '../compression/zstd.ts'
import { buildTar } from '../testing/index.ts'
import { DEFAULT_LAYER_LIMITS } from '../tree/index.ts'
import { CHUNK_BYTES, type DecompressOptions, decompress } from '../compression/decompress.ts'
import { moveInto } from './file-state.ts'
import { LayerStore, type LayerStoreOptions } from './layer-store.ts'
import { ingestLayer } from '../transform/ingest.ts'
import { rounds } from '../../test/support/rounds.ts'
import { layerPath, storePaths } from '../content/store-paths.ts'

test('a tar that the disk cannot read is a problem of its layer, and a lost thread is not', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'loam-tar-'))
  try {
    const paths = storePaths(folder)
    const diffId = parseDiffId(digestOf(Buffer.from('tar')))
    mkdirSync(layerPath(paths, diffId), { recursive: true })
    writeFileSync(join(layerPath(paths, diffId), 'layer.tar'), 'tar')
    const check = async (code: string) => {
      const run = async () => Promise.reject(Object.assign(new Error('hash'), { code }))
      const store = new LayerStore({ paths, workers: { run } } as unknown as LayerStoreOptions)
      return store.checkTar(diffId, 3)
    }
    assert.equal(await check('EIO'), 'its tar cannot be read (EIO)')
    await assert.rejects(check('ERR_WORKER_OUT_OF_MEMORY'))
  } finally {
    rmSync(folder, { recursive: true })
  }
})

async function* pieces(bytes: Buffer, size: number): AsyncGenerator<Buffer> {
  for (let at = 0; at < bytes.length; at += size) {
    // A reader owns the chunks that it gets.
    yield Buffer.from(bytes.subarray(at, at + size))
  }
}

async function unpack(bytes: Buffer, size = 1000, options: DecompressOptions = {}): Promise<Buffer> {
  const chunks: Buffer[] = []
  for await (const chunk of decompress(pieces(bytes, size), options)) chunks.push(Buffer.from(chunk))
  return Buffer.concat(chunks)
}

const skip = !hasIsal() || !hasZstd()
const engines: readonly (readonly [name: string, engine: DecompressOptions, options: { skip: boolean }])[] = [
  ['Node', { withLibraries: false }, { skip: false }],
  ['libraries', { withLibraries: true }, { skip }],
  ['libraries in another thread', { withLibraries: true, isAhead: true }, { skip }],
]

const a = Buffer.alloc(300_000, 'a')
const b = Buffer.from('b'.repeat(1000))
const both = Buffer.concat([a, b])
/** Number of pieces of random input, at most. */
const MAX_PIECES = 5000
const skippable = Buffer.concat([Buffer.from([0x50, 0x2a, 0x4d, 0x18, 5, 0, 0, 0]), Buffer.from('extra')])

interface PackedCase {
  readonly dataBytes: number
  readonly pieceBytes: number
  readonly pack: (bytes: Buffer) => Buffer
  readonly cut: number | undefined
  readonly change: number | undefined
}

describe('decompression', () => {
  const good: Record<string, Buffer> = {
    'plain bytes': both,
    'one gzip member': gzipSync(both),
    'many gzip members': Buffer.concat([gzipSync(a), gzipSync(Buffer.alloc(0)), gzipSync(b)]),
    'gzip with zeros behind it': Buffer.concat([gzipSync(both), Buffer.alloc(1024)]),
    'one zstd frame': zstdCompressSync(both),
    'many zstd frames': Buffer.concat([zstdCompressSync(a), zstdCompressSync(b)]),
    'zstd with skippable frames in front, between and behind': Buffer.concat([
      skippable,
      zstdCompressSync(a),
      skippable,
      zstdCompressSync(b),
      skippable,
    ]),
  }
  for (const [what, bytes] of Object.entries(good)) {
    for (const [name, engine, options] of engines) {
      for (const size of [1, 4096, 1 << 20]) {
        if (size === 1 && bytes.length > 10_000) continue
        test(`${name} reads ${what} in pieces of ${size}`, options, async () => {
          assert.ok((await unpack(bytes, size, engine)).equals(both))
        })
      }
    }
  }

  const bad: Record<string, Buffer> = {
    'gzip that is cut off': gzipSync(both).subarray(0, -20),
    'gzip with rubbish behind it': Buffer.concat([gzipSync(both), Buffer.from('rubbish')]),
    'gzip with a wrong checksum': Buffer.concat([gzipSync(both).subarray(0, -8), Buffer.alloc(8, 1)]),
    'zstd that is cut off': zstdCompressSync(both).subarray(0, -3),
    'zstd with rubbish behind it': Buffer.concat([zstdCompressSync(both), Buffer.from('rubbish')]),
  }
  for (const [what, bytes] of Object.entries(bad)) {
    for (const [name, engine, options] of engines) {
      test(`${name} refuses ${what}`, options, async () => {
        await assert.rejects(unpack(bytes, 1000, engine), (error) =>
          isLoamError(error, 'COMPRESSION_INVALID'),
        )
      })
    }
  }

  test('all engines of decompression agree on any input', { skip }, async () => {
    const outcome = async (bytes: Buffer, size: number, engine: DecompressOptions) => {
      try {
        return await unpack(bytes, size, engine)
      } catch (error) {
        assert.ok(isLoamError(error, 'COMPRESSION_INVALID'), String(error))
        return 'COMPRESSION_INVALID'
      }
    }
    const level = fc.integer({ min: 0, max: 9 })
    const text = fc.array(fc.oneof(fc.uint8Array({ maxLength: 400 }), fc.constant(new Uint8Array(70_000))), {
      maxLength: 6,
    })
    const gzip = fc
      .tuple(text, level)
      .map(([parts, chosen]) => gzipSync(Buffer.concat(parts), { level: chosen }))
    // libzstd compares the size that a frame declares with its content; where the last block is empty, only if it has the whole frame at once.
    const zstd = fc.oneof(
      text.map((parts) => zstdCompressSync(Buffer.concat([...parts, b]))),
      fc.constant(skippable),
    )
    const members = fc.oneof(
      fc.array(gzip, { minLength: 1, maxLength: 4 }),
      fc.array(zstd, { minLength: 1, maxLength: 4 }),
    )
    const damage = fc.option(fc.record({ at: fc.nat(), value: fc.integer({ min: 1, max: 255 }) }), {
      freq: 2,
    })
    await fc.assert(
      fc.asyncProperty(
        members,
        damage,
        fc.integer({ min: 1, max: 5000 }),
        fc.nat({ max: 600 }),
        async (parts, change, size, zeros) => {
          const bytes = Buffer.concat([...parts, Buffer.alloc(zeros)])
          // The bytes by which a packing is known, and gzip's flags, are left as they are: readers differ over flags.
          const at = change === null ? 0 : 4 + (change.at % (bytes.length - 4))
          if (change !== null) bytes[at] = (bytes[at] ?? 0) ^ change.value
          // Megabytes in pieces of one byte would take most of the time of all runs.
          const pieceBytes = Math.max(size, Math.ceil(bytes.length / MAX_PIECES))
          const expected = await outcome(bytes, pieceBytes, { withLibraries: false })
          for (const isAhead of [false, true])
            assert.deepEqual(await outcome(bytes, pieceBytes, { isAhead }), expected)
        },
      ),
      { numRuns: rounds(300, 60) },
    )
  })

  test('all engines agree on data of any size, whole, cut off or damaged, in pieces around the sizes that matter', {
    skip,
  }, async () => {
    const outcome = async (bytes: Buffer, size: number, engine: DecompressOptions) => {
      try {
        return digestOf(await unpack(bytes, size, engine))
      } catch (error) {
        assert.ok(isLoamError(error, 'COMPRESSION_INVALID'), String(error))
        return 'COMPRESSION_INVALID'
      }
    }
    const near = (bytes: number) => fc.integer({ min: bytes - 2, max: bytes + 2 })
    const cases = fc.record({
      // Half of it cannot be packed, so that the packed pieces are large, too.
      dataBytes: fc.oneof(
        near(CHUNK_BYTES),
        near(2 * CHUNK_BYTES),
        fc.integer({ min: 1, max: 3 * CHUNK_BYTES }),
      ),
      pieceBytes: fc.oneof(
        near(16 << 10),
        near(64 << 10),
        near(CHUNK_BYTES),
        fc.integer({ min: 1000, max: 1 << 20 }),
      ),
      pack: fc.constantFrom(
        (bytes: Buffer) => gzipSync(bytes),
        (bytes: Buffer) => zstdCompressSync(bytes),
      ),
      cut: fc.option(fc.nat(), { nil: undefined }),
      change: fc.option(fc.nat(), { nil: undefined }),
    })
    const check = async (given: PackedCase) => {
      const { dataBytes, pieceBytes, pack, cut, change } = given
      const packed = pack(Buffer.concat([randomBytes(dataBytes), Buffer.alloc(dataBytes, 'ab')]))
      const bytes = packed.subarray(0, cut === undefined ? undefined : 5 + (cut % packed.length))
      const at = change === undefined ? 0 : 4 + (change % (bytes.length - 4))
      if (change !== undefined) bytes[at] = (bytes[at] ?? 0) ^ 0x10
      const expected = await outcome(bytes, pieceBytes, { withLibraries: false })
      for (const isAhead of [false, true])
        assert.equal(await outcome(bytes, pieceBytes, { isAhead }), expected)
    }
    await fc.assert(fc.asyncProperty(cases, check), { numRuns: rounds(30, 6) })
  })

  test('a reader that leaves does not wait for a source that sends no more', { skip }, async () => {
    async function* stalls(): AsyncGenerator<Buffer> {
      yield gzipSync(randomBytes(1 << 20))
      await new Promise(() => undefined)
    }
    let seen = 0
    for await (const chunk of decompress(stalls(), { isAhead: true })) {
      seen += chunk.length
      if (seen > CHUNK_BYTES) break
    }
    assert.equal(seen, 2 * CHUNK_BYTES)
  })
})

describe('ingest', () => {
  const tar = buildTar([
    { name: 'f', data: 'content' },
    { name: 'g', data: Buffer.alloc(100_000) },
  ])
  const packed = gzipSync(tar)

  interface Change {
    readonly digest?: Buffer
    readonly sizeBytes?: number
    readonly diffId?: Buffer
    readonly ratio?: number
    readonly tarBytes?: number
    /** Of which the blob is; undefined for the small one above. */
    readonly of?: Buffer
    readonly pieceBytes?: number
  }

  const ingest = async (blob: Buffer, change: Change = {}) => {
    const { of: content = tar, pieceBytes = 1000 } = change
    const folder = mkdtempSync(join(tmpdir(), 'loam-ingest-'))
    try {
      const tarPath = join(folder, 'layer.tar')
      let entries: number | undefined
      const request = {
        blob: { digest: digestOf(change.digest ?? blob), sizeBytes: change.sizeBytes ?? blob.length },
        diffId: parseDiffId(digestOf(change.diffId ?? content)),
        tarPath,
        syncEarly: true,
        lazyIndex: false,
        limits: {
          ...DEFAULT_LAYER_LIMITS,
          ratio: change.ratio ?? 2000,
          tarBytes: change.tarBytes ?? 2 ** 40,
        },
      }
      const { tarBytes } = await ingestLayer(pieces(blob, pieceBytes), request, (tree) => {
        entries = tree.entryCount
        assert.ok(readFileSync(tarPath).equals(content), 'the tar is whole when artifacts are derived')
      })
      return { tarBytes, entries }
    } finally {
      rmSync(folder, { recursive: true })
    }
  }
  const fails = async (act: Promise<unknown>, code: ErrorCode) => {
    await assert.rejects(act, (error) => {
      assert.ok(isLoamError(error), String(error))
      assert.equal(error.code, code, error.message)
      return true
    })
  }

  test('ingest keeps just the tar, and its tree', async () => {
    const { tarBytes, entries } = await ingest(packed)
    assert.equal(tarBytes, tar.length)
    assert.equal(entries, 2)
  })

  test('ingest reports an invalid digest, size or tar of a blob', async () => {
    await fails(ingest(packed, { digest: tar }), 'DIGEST_MISMATCH')
    await fails(ingest(packed, { sizeBytes: packed.length - 1 }), 'SIZE_MISMATCH')
    await fails(ingest(packed, { sizeBytes: packed.length + 1 }), 'SIZE_MISMATCH')
    await fails(ingest(packed, { diffId: packed }), 'DIGEST_MISMATCH')
    const flipped = Buffer.from(packed)
    flipped[50] = (flipped[50] ?? 0) ^ 0xff
    await fails(ingest(flipped, { digest: packed }), 'DIGEST_MISMATCH')
    await fails(ingest(flipped), 'COMPRESSION_INVALID')
    await fails(ingest(Buffer.from('no tar at all, but bytes'.repeat(50))), 'TAR_INVALID')
  })

  test('ingest of a large blob keeps just the tar, and refuses a blob that is cut off or changed, whatever its pieces', async () => {
    const large = buildTar([
      { name: 'f', data: randomBytes(1_500_000) },
      { name: 'g', data: Buffer.alloc(2_000_000, 'a text that can be packed, ') },
    ])
    const cases = fc.record({
      packed: fc.constantFrom(gzipSync(large), zstdCompressSync(large), large),
      pieceBytes: fc.oneof(
        fc.integer({ min: 500, max: 300_000 }),
        fc.integer({ min: (256 << 10) - 2, max: (256 << 10) + 2 }),
        fc.integer({ min: 1 << 20, max: 4 << 20 }),
      ),
      spoiledAt: fc.option(fc.nat(), { nil: undefined }),
      isCut: fc.boolean(),
    })
    await fc.assert(
      fc.asyncProperty(cases, async ({ packed: whole, pieceBytes, spoiledAt, isCut }) => {
        const options = { of: large, pieceBytes, digest: whole, sizeBytes: whole.length }
        if (spoiledAt === undefined) {
          assert.deepEqual(await ingest(whole, options), { tarBytes: large.length, entries: 2 })
          return
        }
        const at = 10 + (spoiledAt % (whole.length - 10))
        const spoiled = Buffer.from(isCut ? whole.subarray(0, at) : whole)
        if (!isCut) spoiled[at] = (spoiled[at] ?? 0) ^ 1
        await fails(ingest(spoiled, options), isCut ? 'SIZE_MISMATCH' : 'DIGEST_MISMATCH')
      }),
      { numRuns: rounds(60, 15) },
    )
  })

  test('ingest stops a decompression bomb while it expands', async () => {
    const bomb = gzipSync(buildTar([{ name: 'zeros', data: Buffer.alloc(40 << 20) }]))
    await fails(ingest(bomb, { ratio: 100 }), 'LAYER_LIMIT')
    await fails(ingest(bomb, { tarBytes: 1 << 20 }), 'LAYER_LIMIT')
  })
})

test('a new artifact reaches its place although others remove the empty directory meanwhile', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'loam-place-'))
  const place = join(folder, 'place')
  const script = `import { rmdirSync } from 'node:fs'
process.stdout.write('ready')
for (;;) try { rmdirSync(${JSON.stringify(place)}) } catch {}`
  const remover = spawn(process.execPath, ['--input-type=module', '-e', script], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  try {
    await once(remover.stdout, 'data')
    for (let round = 0; round < 1000; round += 1) {
      const made = join(folder, 'made')
      writeFileSync(made, '')
      moveInto(made, join(place, 'made'))
      rmSync(join(place, 'made'))
    }
  } finally {
    remover.kill()
    rmSync(folder, { recursive: true, force: true })
  }
})
