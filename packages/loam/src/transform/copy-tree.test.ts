import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import {
  closeSync,
  constants,
  lchownSync,
  linkSync,
  lstatSync,
  lutimesSync,
  mkdirSync,
  mkdtempDisposableSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { isLoamError } from '../errors/index.ts'
import { libc, O_PATH } from '../linux/index.ts'
import type { PackReport } from './folder-reader.ts'
import { type CopyTreeOptions, copyTree, type MountBelow } from './copy-tree.ts'

const BYTES = 3 << 20
const TRUSTED = Buffer.from('trusted.loam-test\0')
const { O_DIRECTORY, O_NOFOLLOW, O_RDONLY } = constants

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

  test('keeps the names of a symlink together', () => {
    using world = new World()
    const source = world.makeDirectory('sub')
    symlinkSync('../nowhere', join(source, 'link'))
    linkSync(join(source, 'link'), join(source, 'sub/other'))
    writeFileSync(join(source, 'z'), 'x')
    assert.deepEqual(world.copyDirectory(source).leftOut, [])
    assert.equal(readlinkSync(join(world.target, 'copy/link')), '../nowhere')
    const inode = (name: string) => lstatSync(join(world.target, 'copy', name)).ino
    assert.equal(inode('sub/other'), inode('link'))
    assert.equal(readFileSync(join(world.target, 'copy/z'), 'utf8'), 'x')
  })

  test('keeps owner, xattrs and time of files of all types', { skip: process.geteuid?.() !== 0 }, () => {
    using world = new World()
    const source = world.makeDirectory('directory')
    writeFileSync(join(source, 'file'), 'x', { mode: 0o640 })
    symlinkSync('nowhere', join(source, 'link'))
    for (const name of ['directory', 'file', 'link']) {
      const path = join(source, name)
      lchownSync(path, 7, 8)
      libc().lsetxattr(Buffer.from(`${path}\0`), TRUSTED, Buffer.from('value'), 5, 0)
      lutimesSync(path, 1000, 1000)
    }
    const own = join(source, 'link')
    assert.deepEqual(world.copyDirectory(source, [], { keepsOwners: true }).leftOut, [])
    assert.deepEqual(world.copyFile(own, 'single', { keepsOwners: true }).leftOut, [])
    for (const [name, mode] of [
      ['copy/directory', 0o755],
      ['copy/file', 0o640],
      ['copy/link', 0o777],
      ['single', 0o777],
    ] as const) {
      const path = join(world.target, name)
      const { uid, gid, mtimeMs, mode: found } = lstatSync(path)
      assert.deepEqual([uid, gid, mtimeMs, found & 0o777], [7, 8, 1_000_000, mode], name)
      const value = Buffer.alloc(9)
      assert.equal(libc().lgetxattr(Buffer.from(`${path}\0`), TRUSTED, value, value.length), 5, name)
    }
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
  const fd = openSync(path, O_RDONLY)
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

  copyDirectory(
    path: string,
    mounts?: readonly MountBelow[],
    options: Partial<CopyTreeOptions> = {},
  ): PackReport {
    return this.copyFile(path, 'copy', { mounts, ...options })
  }

  copyFile(path: string, name: string, options: Partial<CopyTreeOptions> = {}): PackReport {
    return this.#copy(path, name, () => undefined, options)
  }

  #copy(path: string, name: string, check: () => void, options: Partial<CopyTreeOptions> = {}): PackReport {
    const source = openSync(path, O_RDONLY | O_NOFOLLOW | O_PATH)
    const target = openSync(this.target, O_RDONLY | O_DIRECTORY)
    try {
      return copyTree({ source, target, name, owner: undefined, keepsOwners: false, check, ...options })
    } finally {
      closeSync(source)
      closeSync(target)
    }
  }

  [Symbol.dispose](): void {
    this.#directory.remove()
  }
}
