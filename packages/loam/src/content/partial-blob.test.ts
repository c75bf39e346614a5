import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { digestOf } from '../image/index.ts'
import { PartialBlob, sweepPartials } from './partial-blob.ts'
import { storePaths, type StorePaths } from './store-paths.ts'

const CONTENT = Buffer.from('all that comes of a blob')

async function* pieces(fromByte: number, upTo = CONTENT.length): AsyncGenerator<Buffer> {
  for (let at = fromByte; at < upTo; at += 5) yield Buffer.from(CONTENT.subarray(at, Math.min(at + 5, upTo)))
}

async function readAll(stream: AsyncIterable<Buffer>): Promise<string> {
  let text = ''
  for await (const chunk of stream) text += chunk.toString()
  return text
}

describe('a partial blob', () => {
  let paths: StorePaths
  beforeEach(() => {
    paths = storePaths(mkdtempSync(join(tmpdir(), 'loam-partial-')))
  })
  afterEach(() => {
    rmSync(paths.root, { recursive: true, force: true })
  })
  const claim = (algorithm: 'sha256' | 'sha512' = 'sha256') =>
    PartialBlob.claim(paths, digestOf(CONTENT, algorithm), CONTENT.length)
  const files = () => readdirSync(paths.partial).map((name) => join(paths.partial, name))

  test('a partial blob is resumed, for digests of each algorithm, and only its owner may read it', async () => {
    for (const algorithm of ['sha256', 'sha512'] as const) {
      {
        using first = claim(algorithm)
        assert.equal(
          await readAll(first?.resume((from) => pieces(from, 12)) ?? pieces(0)),
          CONTENT.subarray(0, 12).toString(),
        )
      }
      assert.deepEqual(
        files().map((path) => statSync(path).mode & 0o777),
        [0o600],
      )
      assert.equal(statSync(paths.partial).mode & 0o777, 0o700)
      using second = claim(algorithm)
      assert.equal(second?.keptBytes, 12)
      assert.equal(await readAll(second?.resume(pieces) ?? pieces(0)), CONTENT.toString())
      assert.equal(readFileSync(files()[0] ?? '', 'utf8'), CONTENT.toString())
      assert.equal(await second?.drop(), CONTENT.length)
    }
    assert.deepEqual(files(), [])
  })

  test('a partial blob has each chunk while its source sends nothing more, and as it was received', async () => {
    using partial = claim()
    const stream = partial?.resume(pieces) ?? pieces(0)
    const { value } = await stream.next()
    const received = Buffer.from(value ?? '')
    // Its reader may change it, or give its memory away.
    value?.fill(0)
    while (statSync(files()[0] ?? '').size < received.length) await sleep(5)
    assert.deepEqual(readFileSync(files()[0] ?? ''), received)
    await stream.return(undefined)
  })

  test('a partial blob is whole when its source was faster than its file', async () => {
    const blob = randomBytes(3_000_000)
    using partial = PartialBlob.claim(paths, digestOf(blob), blob.length)
    async function* fast(): AsyncGenerator<Buffer> {
      for (let at = 0; at < blob.length; at += 65_537) yield Buffer.from(blob.subarray(at, at + 65_537))
    }
    for await (const chunk of partial?.resume(fast) ?? fast()) chunk.fill(0)
    assert.ok(readFileSync(files()[0] ?? '').equals(blob))
  })

  test('a partial blob is held by one caller at a time', async () => {
    using first = claim()
    assert.notEqual(first, undefined)
    assert.equal(claim(), undefined)
    assert.equal(await sweepPartials(paths), 0)
  })

  test('a partial blob that is removed meanwhile fails no caller, and its replacement stays', async () => {
    using first = claim()
    const stream = first?.resume(pieces) ?? pieces(0)
    await stream.next()
    for (const path of files()) rmSync(path)
    assert.match(await readAll(stream), /blob$/)
    assert.equal(await first?.drop(), 0)
    using _second = claim()
    first?.[Symbol.dispose]()
    assert.equal(files().length, 1)
  })

  test('a partial blob that is longer than the blob, or not a file, is ignored', () => {
    claim()?.[Symbol.dispose]()
    assert.equal(existsSync(paths.partial) && files().length === 0, true)
    const path = join(paths.partial, digestOf(CONTENT).replace(':', '-'))
    writeFileSync(path, Buffer.alloc(CONTENT.length + 1))
    {
      using partial = claim()
      assert.equal(partial?.keptBytes, 0)
    }
    rmSync(path, { force: true })
    rmSync(paths.partial, { recursive: true })
    writeFileSync(paths.partial, '')
    assert.equal(claim(), undefined)
  })
})
