import assert from 'node:assert/strict'
import {
  closeSync,
  existsSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  renameSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, describe, test } from 'node:test'
import { diskUsage } from './disk-usage.ts'
import { openDirectory, openDirectoryAt } from './directory.ts'
import { libc } from './libc.ts'
import { removeTree, removeTreeSync } from './tree-removal.ts'
import { TreeWalk } from './tree-walk.ts'

const DEEP = 300

describe('a walk through a tree', () => {
  const folder = mkdtempSync(join(tmpdir(), 'loam-walk-'))
  after(() => {
    removeTreeSync(folder)
  })
  /** Makes directories in each other, far past what a path may have, with a file in each. */
  const makeDeep = (path: string, levels: number): void => {
    mkdirSync(path)
    let fd = openDirectory(path)
    for (let level = 0; level < levels; level += 1) {
      writeFileSync(`/proc/self/fd/${fd}/file`, '')
      libc().mkdirat(fd, 'directory-in-a-directory', 0o755)
      const below = openDirectoryAt(fd, 'directory-in-a-directory')
      closeSync(fd)
      fd = below
    }
    closeSync(fd)
  }

  test('a walk through a tree reaches any depth and returns, with few descriptors', () => {
    const path = join(folder, 'deep')
    makeDeep(path, DEEP)
    const before = readdirSync('/proc/self/fd').length
    for (const order of ['sorted', 'stored'] as const) {
      using walk = new TreeWalk(openDirectory(path), order)
      let files = 0
      let deepest = 0
      let mostOpen = 0
      for (;;) {
        const listed = walk.next()
        if (listed === undefined) {
          if (walk.depth === 0) break
          if (walk.depth % 100 === 0) mostOpen = Math.max(mostOpen, readdirSync('/proc/self/fd').length)
          walk.leave()
        } else if (!walk.enter(listed.name)) files += 1
        deepest = Math.max(deepest, walk.depth)
      }
      assert.deepEqual([files, deepest], [DEEP, DEEP])
      assert.ok(mostOpen - before < 70, `${mostOpen - before} descriptors`)
    }
    assert.equal(diskUsage(path).inodes, 2 * DEEP + 1)
    removeTreeSync(path)
    assert.equal(existsSync(path), false)
    assert.equal(readdirSync('/proc/self/fd').length, before)
  })

  test('a walk through a tree continues with the remaining entries if a directory far above is moved or removed', () => {
    const path = join(folder, 'moved')
    makeDeep(path, 200)
    mkdirSync(join(path, 'other'))
    using walk = new TreeWalk(openDirectory(path), 'sorted')
    while (walk.depth < 200) {
      const listed = walk.next()
      assert.ok(listed)
      walk.enter(listed.name)
    }
    renameSync(join(path, 'directory-in-a-directory', 'directory-in-a-directory'), join(path, 'other', 'x'))
    const left: string[] = []
    while (walk.depth > 0) {
      if (walk.next() === undefined) walk.leave()
    }
    for (let listed = walk.next(); listed !== undefined; listed = walk.next())
      left.push(listed.name.toString())
    assert.deepEqual(left, ['file\0', 'other\0'])
  })

  test('a walk through a tree enters no symlink, and nothing that has ceased to be a directory', () => {
    const path = join(folder, 'links')
    mkdirSync(join(path, 'own'), { recursive: true })
    symlinkSync('/', join(path, 'root'))
    using walk = new TreeWalk(openDirectory(path), 'sorted')
    assert.equal(walk.enter(Buffer.from('root\0')), false)
    renameSync(join(path, 'own'), join(path, 'moved'))
    symlinkSync('/', join(path, 'own'))
    assert.equal(walk.enter(Buffer.from('own\0')), false)
    assert.equal(walk.enter(Buffer.from('missing\0')), false)
    assert.equal(walk.depth, 0)
  })

  test('a walk through a tree lists names in the order of their bytes, and resumes behind the last one', () => {
    const path = join(folder, 'sorted')
    mkdirSync(path)
    const names = ['a', 'a b', 'a.b', 'b', 'é', 'n'.repeat(255), 'z']
    for (const name of names) writeFileSync(join(path, name), '')
    makeDeep(join(path, 'm'), 100)
    const found: string[] = []
    using walk = new TreeWalk(openDirectory(path), 'sorted')
    for (;;) {
      const listed = walk.next()
      if (listed === undefined) {
        if (walk.depth === 0) break
        walk.leave()
        continue
      }
      if (walk.depth === 0) found.push(listed.name.subarray(0, -1).toString())
      walk.enter(listed.name)
    }
    assert.deepEqual(
      found,
      [...names, 'm'].toSorted((a, b) => Buffer.from(a).compare(Buffer.from(b))),
    )
  })

  test('a walk through a tree counts a hard-linked file once, whatever the number of its names', () => {
    const path = join(folder, 'linked')
    mkdirSync(path)
    writeFileSync(join(path, 'first'), Buffer.alloc(100_000))
    const single = diskUsage(path)
    for (let index = 0; index < 300; index += 1) linkSync(join(path, 'first'), join(path, `${index}`))
    const usage = diskUsage(path)
    assert.equal(usage.inodes, 2)
    assert.ok(usage.bytes - single.bytes <= 32_768, `${usage.bytes} bytes`)
    assert.equal(diskUsage(path, { maxInodes: 1 }), undefined)
    assert.deepEqual(diskUsage(join(path, 'missing')), { bytes: 0, inodes: 0 })
  })

  test('a tree is removed in pieces between which other work continues', async () => {
    const path = join(folder, 'pieces')
    mkdirSync(path)
    for (let index = 0; index < 1500; index += 1) writeFileSync(join(path, `${index}`), '')
    let turns = 0
    const removal = removeTree(path)
    const count = (): void => {
      turns += 1
      if (existsSync(path)) setImmediate(count)
    }
    setImmediate(count)
    await removal
    assert.ok(turns >= 2, `${turns} turns`)
    assert.equal(existsSync(path), false)
  })
})
