// A commit shows the same as the container, whatever the container did to its root, or reports what it cannot keep. Random changes: random-images.test.ts.
import assert from 'node:assert/strict'
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { isLoamError } from '../../src/errors/index.ts'
import { hostPlatform, libc } from '../../src/linux/index.ts'
import type { PullEvent } from '../../src/stores/index.ts'
import { buildImage, buildTar, type BuildEntry, listTree, writeOciLayout } from '../../src/testing/index.ts'
import { type Loam, openStore } from '../model/check-image.ts'
import { onlyShared } from '../model/image-model.ts'
import { must, ok, World } from '../support/world.ts'

const FORMATS = ['tar', 'oci', 'erofs', 'ext4'] as const
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

/** A store with an image for containers. */
class Containers implements AsyncDisposable {
  readonly world: World
  readonly loam: Loam
  readonly image: string
  readonly notes: string[] = []

  private constructor(world: World, loam: Loam, image: string) {
    this.world = world
    this.loam = loam
    this.image = image
  }

  static async open(): Promise<Containers> {
    const world = new World()
    const layout = join(world.folder, 'layout')
    writeOciLayout(layout, { base: buildImage({ tars: [buildTar(ENTRIES)] }) })
    return new Containers(world, await openStore(world.root), `oci:${layout}:base`)
  }

  /** Creates a container and returns its root filesystem. */
  async provision(id: string, backend: string, image = this.image): Promise<string> {
    return (await this.loam.provision(image, { id, backend })).rootfsPath
  }

  async commit(id: string): Promise<void> {
    await this.loam.images.commit(id, 'new:1', { onEvent: this.#listen })
  }

  async export(id: string, format: (typeof FORMATS)[number]): Promise<void> {
    await this.loam.export(id, { format, output: join(this.world.folder, 'out'), onEvent: this.#listen })
  }

  readonly #listen = (event: PullEvent) => {
    if (event.kind === 'note') this.notes.push(event.text)
  }

  /** Waits for an operation that has to be refused, and checks that it has left nothing. */
  async refused(act: Promise<void>, expected: RegExp): Promise<void> {
    await assert.rejects(
      act,
      (error) => isLoamError(error, 'LAYER_UNSUPPORTED') && expected.test(error.message),
      String(expected),
    )
    assert.deepEqual(
      readdirSync(this.world.folder).filter((name) => name.startsWith('out')),
      [],
    )
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.loam[Symbol.asyncDispose]()
    try {
      assert.deepEqual(this.world.leftovers(), [])
    } finally {
      this.world[Symbol.dispose]()
    }
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
    test(`a commit of a container by ${backend} shows the same as the container, in every backend`, async () => {
      await using containers = await Containers.open()
      const root = await containers.provision('c', backend)
      changeAll(root)
      const expected = onlyShared(listTree(root))
      await containers.commit('c')
      for (const other of BACKENDS) {
        const path = await containers.provision(other, other, 'new:1')
        assert.deepEqual(onlyShared(listTree(path)), expected, other)
      }
    })
  }

  test('a commit names its platform, even if the base image does not', async () => {
    await using containers = await Containers.open()
    const { world, loam } = containers
    const layout = join(world.folder, 'any')
    const platform = { os: '', architecture: '' }
    writeOciLayout(layout, { x: buildImage({ tars: [buildTar(ENTRIES)], platform }) })
    await containers.provision('c', 'overlay', `oci:${layout}:x`)
    await containers.commit('c')
    const out = join(world.folder, 'out')
    await loam.export('new:1', { format: 'oci', output: out })
    const inspected = spawnSync('skopeo', ['inspect', '--config', `oci:${out}`], { encoding: 'utf8' })
    const { os, architecture } = JSON.parse(inspected.stdout) as Record<string, unknown>
    assert.deepEqual(
      { os, architecture },
      { os: hostPlatform().os, architecture: hostPlatform().architecture },
    )
  })

  test('the step of a commit belongs to its own layer, also if the base image has layers without a step', async () => {
    await using containers = await Containers.open()
    const rootfs = await containers.provision('c', 'erofs')
    writeFileSync(join(rootfs, 'new'), 'new')
    await containers.commit('c')
    const { steps } = await containers.loam.images.history('new:1')
    assert.deepEqual(
      steps.map(({ layer, createdBy }) => [layer?.index, createdBy]),
      [
        [0, ''],
        [1, 'loam commit c'],
      ],
    )
  })

  test('the step of a commit belongs to its own layer, also if the base image has steps without a layer', async () => {
    await using containers = await Containers.open()
    const layout = join(containers.world.folder, 'steps')
    const withHistory = [{ created_by: 'one' }, { created_by: 'two' }, { created_by: 'e', empty_layer: true }]
    writeOciLayout(layout, { x: buildImage({ tars: [buildTar(ENTRIES)], withHistory }) })
    const rootfs = await containers.provision('c', 'erofs', `oci:${layout}:x`)
    writeFileSync(join(rootfs, 'new'), 'new')
    await containers.commit('c')
    const { steps } = await containers.loam.images.history('new:1')
    assert.deepEqual(
      steps.map(({ layer, createdBy }) => [layer?.index, createdBy]),
      [
        [0, 'one'],
        [undefined, 'two'],
        [undefined, 'e'],
        [1, 'loam commit c'],
      ],
    )
  })

  test('a commit hides a file that a socket has replaced, and reports that the socket is left out', async () => {
    await using containers = await Containers.open()
    const rootfsPath = await containers.provision('c', 'erofs')
    rmSync(join(rootfsPath, 'file'))
    // By a short name: the address of a socket has 108 bytes.
    const bind = 'import os,socket,sys; os.chdir(sys.argv[1]); socket.socket(socket.AF_UNIX).bind("file")'
    must('python3', '-c', bind, rootfsPath)
    await containers.commit('c')
    assert.equal(existsSync(join(await containers.provision('again', 'copy', 'new:1'), 'file')), false)
    await containers.export('c', 'tar')
    const note = 'left out /file: a layer cannot hold a socket'
    assert.deepEqual(containers.notes, [note, note])
  })

  test('a commit names the file with an xattr that layers do not carry', async () => {
    await using containers = await Containers.open()
    setXattr(join(await containers.provision('c', 'erofs'), 'file'), 'user.overlay.x', '1')
    await containers.commit('c')
    assert.deepEqual(containers.notes, ['left out /file: layers cannot represent its xattr user.overlay.x'])
  })

  test('a commit refuses names and xattrs that a layer would take for something else, names the file, and leaves nothing', async () => {
    await using containers = await Containers.open()
    const cases: readonly (readonly [RegExp, (root: string) => void])[] = [
      [/pack \/d\/\.wh\.keep: .*is a whiteout/, (root) => writeFileSync(join(root, 'd/.wh.keep'), '')],
      [/pack \/d\/\.wh\.\.wh\.\.opq: /, (root) => mkdirSync(join(root, 'd/.wh..wh..opq'))],
      [/pack \/file: .*user\.a=b/, (root) => setXattr(join(root, 'file'), 'user.a=b', 'c')],
    ]
    for (const [index, [expected, change]] of cases.entries()) {
      const id = `c${index}`
      change(await containers.provision(id, 'overlay'))
      await containers.refused(containers.commit(id), expected)
      for (const format of FORMATS) await containers.refused(containers.export(id, format), expected)
    }
  })

  test('a commit refuses data that overlayfs keeps elsewhere: directories with a redirect, files without their data, files with names below', async () => {
    await using containers = await Containers.open()
    for (const name of ['redirect', 'metacopy', 'nlink']) {
      writeFileSync(join(await containers.provision(name, 'overlay'), 'd/new'), '')
      const scratch = join(containers.world.root, 'containers', name, 'scratch')
      setXattr(join(scratch, readdirSync(scratch)[0] ?? '', 'upper/d'), `trusted.overlay.${name}`, '/e')
      await containers.refused(containers.commit(name), new RegExp(`pack /d: trusted\\.overlay\\.${name}`))
    }
  })

  test('a commit of a running container never follows a symlink that replaces a directory', async () => {
    await using containers = await Containers.open()
    const root = await containers.provision('c', 'erofs')
    const outside = join(containers.world.folder, 'secret')
    mkdirSync(outside)
    writeFileSync(join(outside, 'a'), 'secret of the host')
    // Two names are swapped while the folder is read, over and over.
    const swaps = 'ln -s "$1" l && while :; do mv -T d x; mv -T l d; mv -T d l; mv -T x d; done'
    const swapping = spawn('sh', ['-c', swaps, 'sh', outside], { cwd: root, stdio: 'ignore' })
    try {
      for (let round = 0; round < 10; round += 1) {
        await containers.export('c', 'tar')
        const output = join(containers.world.folder, 'out')
        assert.equal(readFileSync(output).includes('secret of the host'), false)
        rmSync(output)
      }
    } finally {
      swapping.kill('SIGKILL')
      await once(swapping, 'close')
    }
  })

  test('commits of the same files, changed at different times, with the same SOURCE_DATE_EPOCH are the same image', async () => {
    await using containers = await Containers.open()
    const path = join(await containers.provision('c', 'erofs'), 'new')
    const commit = (name: string, seconds: string) =>
      containers.world.loamWith({ SOURCE_DATE_EPOCH: seconds }, 'snapshot', 'commit', 'c', name).stdout
    const change = (seconds: number) => {
      writeFileSync(path, 'new')
      utimesSync(path, seconds, seconds)
    }
    change(1_700_000_002)
    const first = commit('a:1', '1700000000')
    assert.match(first, /^sha256:/)
    change(1_700_000_003)
    assert.equal(commit('b:1', '1700000000'), first)
    assert.notEqual(commit('c:1', '1700000001'), first)
    const exported = (format: string, name: string) => {
      const output = containers.world.path(name)
      const words = ['export', '--format', format, 'c', output]
      ok(containers.world.loamWith({ SOURCE_DATE_EPOCH: '1700000000' }, ...words))
      return readFileSync(output)
    }
    const before = [exported('tar', 'a.tar'), exported('erofs', 'a.erofs')]
    change(1_700_000_004)
    assert.deepEqual([exported('tar', 'b.tar'), exported('erofs', 'b.erofs')], before)
  })
})
