import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import {
  closeSync,
  constants,
  lstatSync,
  mkdirSync,
  mkdtempDisposableSync,
  openSync,
  readdirSync,
  readFileSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { isLoamError } from '../errors/index.ts'
import { copyTree } from './copy-tree.ts'

const BYTES = 3 << 20

describe('copyTree', () => {
  test('replaces a file by one that is whole', () => {
    using world = new World()
    writeFileSync(join(world.target, 'file'), 'old')
    world.copy()
    assert.equal(lstatSync(join(world.target, 'file')).size, BYTES)
    assert.deepEqual(readdirSync(world.target), ['file'])
  })

  test('leaves the old file when it is canceled within a file', () => {
    using world = new World()
    writeFileSync(join(world.target, 'file'), 'old')
    let calls = 0
    const check = () => {
      calls += 1
      if (calls > 1) throw new Error('canceled')
    }
    assert.throws(() => {
      world.copy(check)
    })
    assert.equal(readFileSync(join(world.target, 'file'), 'utf8'), 'old')
    assert.deepEqual(readdirSync(world.target), ['file'])
  })

  test('does not replace a pipe', () => {
    using world = new World()
    assert.equal(spawnSync('mkfifo', [join(world.target, 'file')]).status, 0)
    assert.throws(
      () => {
        world.copy()
      },
      (error) => isLoamError(error, 'USAGE') && error.message.includes('a device, a pipe or a socket'),
    )
    assert.ok(lstatSync(join(world.target, 'file')).isFIFO())
  })
})

class World implements Disposable {
  readonly target: string
  readonly #directory = mkdtempDisposableSync(join(tmpdir(), 'loam-copy-'))
  readonly #source: string

  constructor() {
    this.target = join(this.#directory.path, 'target')
    this.#source = join(this.#directory.path, 'source')
    mkdirSync(this.target)
    writeFileSync(this.#source, Buffer.alloc(BYTES, 1))
  }

  copy(check = (): void => undefined): void {
    const source = openSync(this.#source, constants.O_RDONLY)
    const target = openSync(this.target, constants.O_RDONLY | constants.O_DIRECTORY)
    try {
      copyTree({ source, target, name: 'file', owner: undefined, keepsOwners: false, check })
    } finally {
      closeSync(source)
      closeSync(target)
    }
  }

  [Symbol.dispose](): void {
    this.#directory.remove()
  }
}
