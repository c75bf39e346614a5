import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import {
  closeSync,
  constants,
  linkSync,
  lstatSync,
  mkdirSync,
  mkdtempDisposableSync,
  openSync,
  readdirSync,
  readFileSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { isLoamError } from '../errors/index.ts'
import { libc } from '../linux/index.ts'
import type { PackReport } from './folder-reader.ts'
import { copyTree, type MountBelow } from './copy-tree.ts'

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

  test('ends where a file ends that becomes shorter meanwhile, and says so', () => {
    using world = new World()
    let calls = 0
    const { leftOut } = world.copy(() => {
      calls += 1
      if (calls === 1) world.truncate()
    })
    assert.equal(lstatSync(join(world.target, 'file')).size, 1 << 20)
    assert.deepEqual(leftOut, ['/file: it became shorter while it was copied'])
  })

  test('copies a directory without the rules of layers, and reports what it leaves out by its path', () => {
    using world = new World()
    const source = world.makeDirectory('sub')
    writeFileSync(join(source, 'sub/.wh.file'), 'x')
    setXattr(join(source, 'sub/.wh.file'), 'user.a=b')
    assert.equal(spawnSync('mkfifo', [join(source, 'sub/pipe')]).status, 0)
    const { leftOut } = world.copyDirectory(source)
    assert.equal(readFileSync(join(world.target, 'copy/sub/.wh.file'), 'utf8'), 'x')
    assert.deepEqual(leftOut, ['left out /sub/pipe: it is a device, a pipe or a socket'])
  })

  test('leaves out what would be hidden by mounts of the target, and reports each mount once', () => {
    using world = new World()
    const source = world.makeDirectory('data/sub/deep')
    for (const name of ['data/sub/a', 'data/sub/deep/b', 'data/kept', 'resolv'])
      writeFileSync(join(source, name), 'x')
    linkSync(join(source, 'data/sub/a'), join(source, 'zlink'))
    const mounts = [
      { parts: ['copy', 'data', 'sub'], mount: '/data/sub' },
      { parts: ['copy', 'resolv'], mount: '/resolv' },
      { parts: ['copy', 'other'], mount: '/other' },
    ]
    const { leftOut } = world.copyDirectory(source, mounts)
    const made = new Set(readdirSync(world.target, { recursive: true, encoding: 'utf8' }))
    assert.deepEqual(made, new Set(['copy', 'copy/data', 'copy/data/kept', 'copy/data/sub']))
    assert.deepEqual(leftOut, [
      'left out what goes to /data/sub: it is a mount of the container',
      'left out what goes to /resolv: it is a mount of the container',
      'left out /zlink: its data were left out by another name',
    ])
  })
})

function setXattr(path: string, name: string): void {
  const fd = openSync(path, constants.O_RDONLY)
  try {
    libc().fsetxattr(fd, Buffer.from(`${name}\0`), Buffer.from('1'), 1, 0)
  } finally {
    closeSync(fd)
  }
}

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

  makeDirectory(name: string): string {
    const path = join(this.#directory.path, 'tree')
    mkdirSync(join(path, name), { recursive: true })
    return path
  }

  truncate(): void {
    truncateSync(this.#source, 0)
  }

  copy(check = (): void => undefined): PackReport {
    return this.#copy(this.#source, 'file', check)
  }

  copyDirectory(path: string, mounts?: readonly MountBelow[]): PackReport {
    return this.#copy(path, 'copy', () => undefined, mounts)
  }

  #copy(path: string, name: string, check: () => void, mounts?: readonly MountBelow[]): PackReport {
    const source = openSync(path, constants.O_RDONLY)
    const target = openSync(this.target, constants.O_RDONLY | constants.O_DIRECTORY)
    try {
      return copyTree({ source, target, name, mounts, owner: undefined, keepsOwners: false, check })
    } finally {
      closeSync(source)
      closeSync(target)
    }
  }

  [Symbol.dispose](): void {
    this.#directory.remove()
  }
}
