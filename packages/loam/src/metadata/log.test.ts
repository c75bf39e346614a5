// The disk is simulated: it has what syncs wrote of the log, and a sync that fails drops what it should have written, as Linux does.
import assert from 'node:assert/strict'
import fs from 'node:fs'
import { syncBuiltinESMExports } from 'node:module'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { promisify } from 'node:util'
import { isLoamError } from '../errors/index.ts'
import { parseDigest } from '../image/index.ts'
import type { ImageRecord } from './index.ts'

const real = { ...fs }

/** The disk below a log. SQLite writes without the table of system calls: its writes show in the content. */
class Disk {
  failures = 0
  readonly #log: string
  #seen: Buffer = Buffer.alloc(0)
  #written: Buffer = Buffer.alloc(0)
  /** Pages that were written through the table, with the same content or another one. */
  readonly #dirty = new Set<number>()

  constructor(log: string) {
    this.#log = log
  }

  install(): void {
    const fdatasync = async () => {
      this.#sync()
    }
    const unused = () => {
      throw new Error('only its promise is simulated')
    }
    Object.assign(fs, {
      fdatasync: Object.assign(unused, { [promisify.custom]: fdatasync }),
      writeSync: (...[fd, bytes, at, length, position]: [number, Buffer, number, number, number]) => {
        const end = position + length
        for (let page = position >> 12; page << 12 < end; page += 1) this.#dirty.add(page)
        return real.writeSync(fd, bytes, at, length, position)
      },
    })
    syncBuiltinESMExports()
  }

  #sync(): void {
    const now = fs.readFileSync(this.#log)
    const old = this.#written
    this.#written = Buffer.alloc(now.length)
    old.copy(this.#written)
    const hasFailed = this.failures > 0
    if (hasFailed) this.failures -= 1
    for (let page = 0; page << 12 < now.length; page += 1) {
      const [start, end] = [page << 12, (page + 1) << 12]
      const isDirty =
        this.#dirty.has(page) || !now.subarray(start, end).equals(this.#seen.subarray(start, end))
      if (isDirty && !hasFailed) now.copy(this.#written, start, start, end)
    }
    this.#dirty.clear()
    this.#seen = now
    if (hasFailed)
      throw Object.assign(new Error('EIO: i/o error, fdatasync'), {
        code: 'EIO',
        errno: -5,
        syscall: 'fdatasync',
      })
  }

  /** Copies what a power cut leaves of a database to another path. */
  cutPower(database: string, to: string): void {
    fs.copyFileSync(database, to)
    fs.writeFileSync(`${to}-wal`, this.#written)
  }
}

function image(letter: string): ImageRecord {
  const digest = parseDigest(`sha256:${letter.repeat(64)}`)
  return {
    type: 'docker',
    digest,
    mediaType: 'm',
    configDigest: digest,
    chainId: undefined,
    platform: 'linux/amd64',
    sizeBytes: 1,
    created: undefined,
    pulledAtMs: 1,
    usedAtMs: 1,
    isLocal: false,
    layers: [],
  }
}

test('after a failed sync of the log, nothing is reported as recorded that a power cut would lose', async () => {
  const folder = fs.mkdtempSync(join(tmpdir(), 'loam-log-'))
  try {
    const path = join(folder, 'metadata.db')
    const disk = new Disk(`${path}-wal`)
    disk.install()
    const { MetadataStore } = await import('./index.ts')
    const left = async (name: string) => {
      disk.cutPower(path, join(folder, name))
      using after = await MetadataStore.open(join(folder, name), { lockFile: join(folder, 'lock') })
      return after.images.list().map(({ digest }) => digest.at(-1))
    }
    using store = await MetadataStore.open(path, { lockFile: join(folder, 'lock') })
    await store.images.put(image('a'), [])
    disk.failures = 1
    await assert.rejects(store.images.put(image('b'), []), (error) => isLoamError(error, 'SYSTEM'))
    assert.deepEqual(await left('cut-1'), ['a'])

    // Another caller finds the row, and waits for the disk before it relies on it.
    disk.failures = 1
    await assert.rejects(store.settle(), (error) => isLoamError(error, 'SYSTEM'))
    await store.settle()
    assert.deepEqual(await left('cut-2'), ['a', 'b'])

    disk.failures = 2
    await assert.rejects(store.images.put(image('c'), []))
    await assert.rejects(store.images.put(image('d'), []))
    await store.images.put(image('e'), [])
    assert.deepEqual(await left('cut-3'), ['a', 'b', 'c', 'd', 'e'])
  } finally {
    fs.rmSync(folder, { recursive: true })
  }
})
