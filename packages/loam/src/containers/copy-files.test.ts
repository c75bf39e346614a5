import assert from 'node:assert/strict'
import {
  closeSync,
  mkdirSync,
  mkdtempDisposableSync,
  openSync,
  readlinkSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import type { LayerStore } from '../layers/index.ts'
import { copyFrom, copyTo, findCovering, findMountPoints, mountsBelow } from './copy-files.ts'

describe('findCovering', () => {
  test('finds the mount that a path leads into', () => {
    using root = new Root()
    assert.equal(root.find(['/run'], '/run/a/b'), '/run')
    assert.equal(root.find(['/run'], '/running'), undefined)
  })

  test('resolves symlinks of the path', () => {
    using root = new Root()
    assert.equal(root.find(['/run'], '/var/run'), '/run')
    assert.equal(root.find(['/run'], '/var/run/not/there'), '/run')
    assert.equal(root.find(['/run'], '/var/lib'), undefined)
  })

  test('resolves symlinks of the mount', () => {
    using root = new Root()
    assert.equal(root.find(['/var/run/y'], '/run/y/file'), '/var/run/y')
  })

  test('takes a link that is copied itself for what it is', () => {
    using root = new Root()
    assert.equal(root.find(['/run'], '/var/run', false), undefined)
    assert.equal(root.find(['/run'], '/var/run/x', false), '/run')
  })
})

describe('mountsBelow', () => {
  test('finds the mounts beneath a directory by their real paths from there on', () => {
    using root = new Root()
    assert.deepEqual(root.below(['/var/run/y', '/var', '/running'], '/run'), [
      { parts: ['y'], mount: '/var/run/y' },
    ])
    assert.deepEqual(root.below(['/var/lib/a'], '/'), [{ parts: ['var', 'lib', 'a'], mount: '/var/lib/a' }])
  })
})

describe('copyTo', () => {
  test('a file is replaced under its own name, also under one that ends like the note of the kernel for removed files', async () => {
    using root = mkdtempDisposableSync(join(tmpdir(), 'loam-copy-'))
    const source = join(root.path, 'source')
    writeFileSync(source, '')
    for (const name of ['file', 'file (deleted)']) {
      writeFileSync(join(root.path, name), '')
      const names: unknown[] = []
      const trees = { copyTree: async (copy: { readonly name: unknown }) => names.push(copy.name) }
      const container = { id: 'c', rootfsPath: root.path, idMapping: undefined, runs: false, mounts: [] }
      await copyTo({ trees } as unknown as Pick<LayerStore, 'trees'>, container, [source, `/${name}`], {})
      assert.deepEqual(names, [name])
    }
  })
})

describe('copyFrom', () => {
  test('no symlink at the target is followed, unless its path has a slash at the end', async () => {
    using root = mkdtempDisposableSync(join(tmpdir(), 'loam-copy-'))
    const at = (name: string) => join(root.path, name)
    for (const name of ['rootfs', 'rootfs/directory', 'shared', 'shared/real', 'elsewhere'])
      mkdirSync(at(name))
    for (const name of ['rootfs/file', 'victim']) writeFileSync(at(name), '')
    symlinkSync(at('elsewhere'), at('shared/to-directory'))
    symlinkSync(at('victim'), at('shared/to-file'))
    symlinkSync(at('nothing'), at('shared/to-nothing'))
    symlinkSync('to-itself', at('shared/to-itself'))
    const container = { id: 'c', rootfsPath: at('rootfs'), idMapping: undefined, runs: false, mounts: [] }
    /** Returns the directory that a copy goes to, and its name there. */
    const placeOf = async (path: string, target: string) => {
      let found = ''
      const copyTree = async (copy: { readonly target: number; readonly name: string | undefined }) => {
        found = join(readlinkSync(`/proc/self/fd/${copy.target}`), copy.name ?? '.').slice(
          root.path.length + 1,
        )
      }
      const layers = { trees: { copyTree } } as unknown as Pick<LayerStore, 'trees'>
      await copyFrom(layers, container, [path, at(target)], {})
      return found
    }
    assert.equal(await placeOf('/file', 'shared/to-file'), 'shared/to-file')
    assert.equal(await placeOf('/file', 'shared/to-nothing'), 'shared/to-nothing')
    assert.equal(await placeOf('/file', 'shared/to-itself'), 'shared/to-itself')
    for (const path of ['/file', '/directory'])
      await assert.rejects(placeOf(path, 'shared/to-directory'), {
        code: 'USAGE',
        hint: /end the path with a slash/,
      })
    for (const link of ['shared/to-file', 'shared/to-nothing'])
      await assert.rejects(placeOf('/directory', link), { code: 'USAGE', message: /it is a file/ })
    assert.equal(await placeOf('/file', 'shared/to-directory/'), 'elsewhere/file')
    assert.equal(await placeOf('/file', 'shared/real'), 'shared/real/file')
    assert.equal(await placeOf('/directory', 'shared/new'), 'shared/new')
    await assert.rejects(placeOf('/file', 'shared/new/'), { code: 'PATH_NOT_FOUND' })
    await assert.rejects(placeOf('/file', 'absent/new'), { code: 'PATH_NOT_FOUND' })
  })
})

describe('findMountPoints', () => {
  test('finds the volumes of a container that does not run, which hide files when it is started again', () => {
    using directory = mkdtempDisposableSync(join(tmpdir(), 'loam-copy-'))
    const mounts = [
      { destination: '/data', options: ['rbind', 'rw'] },
      { destination: '/proc' },
      { destination: '/run', options: ['rw', 'tmpcopyup'] },
    ]
    writeFileSync(join(directory.path, 'config.json'), JSON.stringify({ mounts }))
    assert.deepEqual(findMountPoints(directory.path, false), ['/data', '/proc'])
    assert.deepEqual(findMountPoints(directory.path, true), ['/data', '/proc', '/run'])
  })

  test('finds nothing for a container that has never had a process', () => {
    using directory = mkdtempDisposableSync(join(tmpdir(), 'loam-copy-'))
    assert.deepEqual(findMountPoints(directory.path, false), [])
  })
})

class Root implements Disposable {
  readonly #directory = mkdtempDisposableSync(join(tmpdir(), 'loam-copy-'))

  constructor() {
    for (const name of ['run', 'var/lib']) mkdirSync(join(this.#directory.path, name), { recursive: true })
    symlinkSync('/run', join(this.#directory.path, 'var/run'))
  }

  find(mounts: readonly string[], path: string, isFollowed = true): string | undefined {
    return findCovering(this.#directory.path, mounts, { path, isFollowed })
  }

  below(mounts: readonly string[], path: string): ReturnType<typeof mountsBelow> {
    const rootfsPath = this.#directory.path
    const fd = openSync(join(rootfsPath, path), 'r')
    try {
      return mountsBelow({ id: 'a', rootfsPath, idMapping: undefined, runs: true, mounts }, fd)
    } finally {
      closeSync(fd)
    }
  }

  [Symbol.dispose](): void {
    this.#directory.remove()
  }
}
