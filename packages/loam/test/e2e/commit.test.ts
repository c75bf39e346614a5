// A commit shows what the container shows, whatever it has done to its root, or says what it cannot keep. Random changes: random-images.test.ts.
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import {
  existsSync,
  mkdirSync,
  readdirSync,
  renameSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { libc } from '../../src/linux/index.ts'
import { buildImage, buildTar, type BuildEntry, listTree, writeOciLayout } from '../../src/testing/index.ts'
import { onlyShared } from '../model/image-model.ts'
import { must, World } from './world.ts'

const BACKENDS = ['erofs', 'overlay', 'copy'] as const
const LONG = 'n'.repeat(255)
const ENTRIES: readonly BuildEntry[] = [
  ...['a', 'b', 'c', 'keep'].map((name) => ({ name: `d/${name}`, data: name.repeat(3) })),
  { name: 'e/f', data: 'F' },
  { name: 'full/x', data: 'X' },
  { name: 'file', data: 'file' },
  { name: 'link', type: 'symlink', linkName: 'd' },
  { name: 'hard-1', data: 'hard' },
  { name: 'hard-2', type: 'hardlink', linkName: 'hard-1' },
  { name: `long/${LONG}`, data: 'long' },
]

class Containers implements Disposable {
  readonly world = new World()
  readonly image: string

  constructor() {
    const layout = join(this.world.folder, 'layout')
    writeOciLayout(layout, { base: buildImage({ tars: [buildTar(ENTRIES)] }) })
    this.image = `oci:${layout}:base`
  }

  loam(...args: readonly string[]): { stdout: string; stderr: string } {
    const { status, stdout, stderr } = this.world.loam(...args)
    assert.equal(status, 0, stderr)
    return { stdout: stdout.trim(), stderr }
  }

  /** Makes a container and returns its root filesystem. */
  provision(id: string, backend: string, image = this.image): string {
    return this.loam('--quiet', 'provision', '--id', id, '--backend', backend, image).stdout
  }

  /** Fails a command, and returns its error. */
  refusal(...args: readonly string[]): { code: string; message: string } {
    const { status, stderr } = this.world.loam('--json', ...args)
    assert.equal(status, 1, stderr)
    return JSON.parse(stderr).error
  }

  [Symbol.dispose](): void {
    this.world[Symbol.dispose]()
  }
}

function setXattr(path: string, name: string, value: string): void {
  libc().lsetxattr(path, Buffer.from(`${name}\0`), Buffer.from(value), value.length, 0)
}

function changeAll(root: string): void {
  for (const name of ['a', 'b', 'c']) rmSync(join(root, 'd', name))
  rmSync(join(root, 'e'), { recursive: true })
  rmSync(join(root, 'full'), { recursive: true })
  mkdirSync(join(root, 'full'))
  rmSync(join(root, 'file'))
  mkdirSync(join(root, 'file'))
  rmSync(join(root, 'link'))
  writeFileSync(join(root, 'link'), 'a file now')
  rmSync(join(root, 'hard-1'))
  renameSync(join(root, 'hard-2'), join(root, 'hard-3'))
  rmSync(join(root, 'long', LONG))
  symlinkSync('x', join(root, '-new\nname'))
  writeFileSync(join(root, 'sparse'), 'x')
  truncateSync(join(root, 'sparse'), 1 << 20)
  setXattr(join(root, 'd'), 'user.d', '1\0user.e=2')
}

describe('a commit', () => {
  for (const backend of ['erofs', 'overlay'] as const) {
    test(`of a container by ${backend} shows what it shows, in every backend`, () => {
      using containers = new Containers()
      const root = containers.provision('c', backend)
      changeAll(root)
      const expected = onlyShared(listTree(root))
      containers.loam('snapshot', 'commit', 'c', 'new:1')
      for (const other of BACKENDS)
        assert.deepEqual(onlyShared(listTree(containers.provision(other, other, 'new:1'))), expected, other)
    })
  }

  test('hides what a socket has replaced, and says that the socket is left out', () => {
    using containers = new Containers()
    const root = containers.provision('c', 'erofs')
    rmSync(join(root, 'file'))
    must(
      'python3',
      '-c',
      'import socket,sys; socket.socket(socket.AF_UNIX).bind(sys.argv[1])',
      join(root, 'file'),
    )
    assert.match(containers.loam('snapshot', 'commit', 'c', 'new:1').stderr, /left out \/file: .*socket/)
    assert.equal(existsSync(join(containers.provision('again', 'copy', 'new:1'), 'file')), false)
    const { stdout } = containers.loam(
      '--json',
      'export',
      '--format',
      'tar',
      'c',
      join(containers.world.folder, 'c.tar'),
    )
    assert.match(JSON.parse(stdout).notes.join('\n'), /left out \/file/)
  })

  test('says which file has an xattr that layers do not carry', () => {
    using containers = new Containers()
    const root = containers.provision('c', 'erofs')
    setXattr(join(root, 'file'), 'user.overlay.x', '1')
    const { stderr } = containers.loam('snapshot', 'commit', 'c', 'new:1')
    assert.match(stderr, /left out \/file: .*user\.overlay\.x/)
  })

  test('refuses names and xattrs that a layer would take for something else, names the file, and leaves nothing', () => {
    using containers = new Containers()
    const { folder } = containers.world
    const cases: readonly (readonly [string, RegExp, (root: string) => void])[] = [
      ['name', /d\/\.wh\.keep: .*removes another/, (root) => writeFileSync(join(root, 'd/.wh.keep'), '')],
      ['opaque', /d\/\.wh\.\.wh\.\.opq: /, (root) => mkdirSync(join(root, 'd/.wh..wh..opq'))],
      ['xattr', /file: .*user\.a=b/, (root) => setXattr(join(root, 'file'), 'user.a=b', 'c')],
    ]
    const check = (expected: RegExp, ...args: readonly string[]) => {
      const { code, message } = containers.refusal(...args)
      assert.equal(code, 'LAYER_UNSUPPORTED')
      assert.match(message, expected)
      assert.deepEqual(containers.world.leftovers(), [])
      assert.deepEqual(
        readdirSync(folder).filter((name) => name.startsWith('out')),
        [],
      )
    }
    for (const [id, expected, change] of cases) {
      change(containers.provision(id, 'overlay'))
      check(expected, 'snapshot', 'commit', id, 'new:1')
    }
    for (const format of ['tar', 'oci', 'erofs', 'ext4'])
      check(cases[0]?.[1] ?? /^$/, 'export', '--format', format, 'name', join(folder, 'out'))
  })

  test('of a running container never follows a symlink that takes the place of a directory', () => {
    using containers = new Containers()
    const root = containers.provision('c', 'erofs')
    const outside = join(containers.world.folder, 'outside')
    mkdirSync(outside)
    writeFileSync(join(outside, 'a'), 'secret of the host')
    // Two names change places while the folder is read, over and over.
    const swap = spawnSync('sh', [
      '-c',
      `cd ${root} && ln -s ${outside} l && (for i in $(seq 300); do mv -T d x; mv -T l d; mv -T d l; mv -T x d; done) & exec ${process.execPath} "$@"`,
      'sh',
      ...containers.world.args('export', '--format', 'tar', 'c', join(containers.world.folder, 'c.tar')),
    ])
    assert.equal(swap.status, 0, swap.stderr.toString())
    const found = spawnSync('grep', ['-c', 'secret of the host', join(containers.world.folder, 'c.tar')])
    assert.equal(found.stdout.toString().trim(), '0')
  })

  test('refuses what overlayfs keeps elsewhere: directories with a redirect, files without their data', () => {
    using containers = new Containers()
    for (const [index, name] of ['redirect', 'metacopy'].entries()) {
      const id = `c${index}`
      writeFileSync(join(containers.provision(id, 'overlay'), 'd/new'), '')
      const scratch = join(containers.world.root, 'containers', id, 'scratch')
      const [folder = ''] = readdirSync(scratch)
      setXattr(join(scratch, folder, 'upper/d'), `trusted.overlay.${name}`, '/e')
      const { code, message } = containers.refusal('snapshot', 'commit', id, 'new:1')
      assert.deepEqual(
        [code, message.includes(`/d: trusted.overlay.${name}`)],
        ['LAYER_UNSUPPORTED', true],
        message,
      )
    }
  })
})
