// Snapshots in a life of a store: clients create them, write into them and commit them; acknowledged ones exist and are complete.
import { snapshotKey } from '../../src/metadata/index.ts'
import assert from 'node:assert/strict'
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { MetadataStore } from '../../src/metadata/index.ts'
import type { Snapshotter } from '../../src/snapshotter/index.ts'
import type { Random } from '../faults/random.ts'
import type { Machine } from './machine.ts'

interface Open {
  readonly metadata: MetadataStore
  readonly snapshotter: Snapshotter
}

/** Expectations of clients about their snapshots. */
export class Snapshots {
  readonly #machine: Machine
  readonly #random: Random
  readonly #root: string
  /** The content of a snapshot that was to be committed under a name. */
  readonly #contents = new Map<string, string>()
  readonly #committed = new Set<string>()
  readonly #active = new Set<string>()
  #count = 0

  constructor(machine: Machine, random: Random, root: string) {
    this.#machine = machine
    this.#random = random
    this.#root = root
  }

  /** A client's work with one snapshot. */
  async act({ metadata, snapshotter }: Open): Promise<void> {
    const random = this.#random
    this.#count += 1
    const [key, name] = [`key-${this.#count}`, `name-${this.#count}`]
    const known = [...this.#committed]
    const parent = known.length > 0 && random.next() < 0.7 ? random.pick(known) : ''
    await snapshotter.prepare(key, parent)
    this.#active.add(key)
    const folder = this.#folderOf(metadata, key)
    const content = `${name} `.repeat(1 + random.below(400))
    mkdirSync(join(folder, 'd'))
    writeFileSync(join(folder, 'd', 'f'), content)
    await this.#machine.turn()
    const way = random.next()
    if (way < 0.6) {
      this.#contents.set(name, content)
      // From here on it may be either.
      this.#active.delete(key)
      await snapshotter.commit({ name, key })
      this.#committed.add(name)
    } else if (way < 0.8) {
      this.#active.delete(key)
      await snapshotter.remove(key)
    }
  }

  /** Every acknowledged snapshot exists, and every existing one is complete. */
  async check({ metadata, snapshotter }: Open): Promise<void> {
    await snapshotter.cleanup()
    const listed = await Array.fromAsync(snapshotter.list())
    const names = new Set(listed.map(({ name }) => name))
    for (const name of [...this.#committed, ...this.#active])
      assert.ok(names.has(name), `snapshot ${name} was acknowledged, and is gone`)
    for (const { name, kind } of listed) {
      if (kind !== 'committed') {
        await snapshotter.mounts(name)
        continue
      }
      const content = readFileSync(join(this.#folderOf(metadata, name), 'd', 'f'), 'utf8')
      assert.equal(content, this.#contents.get(name), `snapshot ${name} is not what was committed`)
      this.#committed.add(name)
    }
    const ids = metadata.snapshots.ids()
    const folders = existsSync(join(this.#root, 'snapshots'))
      ? readdirSync(join(this.#root, 'snapshots'))
      : []
    for (const folder of folders) assert.ok(ids.has(Number(folder)), `folder ${folder} has no snapshot`)
  }

  /** Removes all, parents last, and leaves nothing. */
  async end({ snapshotter }: Open): Promise<void> {
    for (const { name } of (await Array.fromAsync(snapshotter.list())).toReversed())
      await snapshotter.remove(name)
    await snapshotter.cleanup()
    assert.deepEqual(await Array.fromAsync(snapshotter.list()), [])
    const folder = join(this.#root, 'snapshots')
    assert.deepEqual(existsSync(folder) ? readdirSync(folder) : [], [])
  }

  #folderOf(metadata: MetadataStore, key: string): string {
    const id = metadata.snapshots.find(snapshotKey(key))?.id ?? assert.fail(`there is no snapshot ${key}`)
    return join(this.#root, 'snapshots', String(id), 'fs')
  }
}
