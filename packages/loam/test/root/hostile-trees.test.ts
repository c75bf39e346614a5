// Trees that only a hostile container creates: deeper than a path may be, protected by flags, with mounts in them.
import assert from 'node:assert/strict'
import { execFileSync, spawnSync } from 'node:child_process'
import {
  closeSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { type Loam, openLoam } from '../../src/index.ts'
import { libc, openDirectory, openDirectoryAt, removeTreeSync, unmountAll } from '../../src/linux/index.ts'
import { buildImage, buildTar, writeOciLayout } from '../../src/testing/index.ts'
import { setUp } from '../../src/testing/set-up.ts'
import { programPath } from '../support/test-tools.ts'

const FORMATS = ['tar', 'oci', 'erofs', 'ext4'] as const
const CANARY = 'canary of the host'
const LEVEL = 'directory-in-a-directory'
/** 10 kB of path. */
const DEEP = 400
/** A depth that overflows the stack of a recursion. */
const DEEPEST = 6_000

/** A store in memory, where creating and removing thousands of directories takes a moment. */
class Place implements AsyncDisposable {
  readonly folder = realpathSync(mkdtempSync(join(tmpdir(), 'loam-hostile-')))
  readonly image: string
  readonly notes: string[] = []
  loam: Loam | undefined

  constructor() {
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=2G', 'loam', this.folder])
    const layout = join(this.folder, 'layout')
    writeOciLayout(layout, { base: buildImage({ tars: [buildTar([{ name: 'etc/file', data: 'x' }])] }) })
    this.image = `oci:${layout}:base`
    mkdirSync(join(this.folder, 'host'))
    writeFileSync(join(this.folder, 'host/secret'), CANARY)
  }

  get flags(): string[] {
    return ['--root', join(this.folder, 'store'), '--state', join(this.folder, 'state')]
  }

  async open(): Promise<Loam> {
    const flags = { root: join(this.folder, 'store'), state: join(this.folder, 'state') }
    this.loam ??= await openLoam({ file: null, flags, env: { PATH: process.env['PATH'] } })
    return this.loam
  }

  async provision(id: string, backend: string): Promise<string> {
    return (await (await this.open()).provision(this.image, { id, backend })).rootfsPath
  }

  async export(id: string, format: (typeof FORMATS)[number]): Promise<string> {
    const output = join(this.folder, 'out')
    rmSync(output, { recursive: true, force: true })
    const onEvent = (event: { kind: string; text?: string }) => {
      if (event.kind === 'note') this.notes.push(event.text ?? '')
    }
    await (await this.open()).export(id, { format, output, onEvent })
    return output
  }

  /** Returns whether an output contains bytes. */
  holds(output: string, text: string): boolean {
    return spawnSync('grep', ['-rqaF', text, output]).status === 0
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.loam?.[Symbol.asyncDispose]()
    unmountAll(this.folder)
    rmSync(this.folder, { recursive: true })
  }
}

/** Creates nested directories, as a process that changes into each does. Returns the descriptor of the last one. */
function deepen(root: string, levels: number): number {
  let fd = openDirectory(root)
  for (let level = 0; level < levels; level += 1) {
    libc().mkdirat(fd, LEVEL, 0o755)
    const below = openDirectoryAt(fd, LEVEL)
    closeSync(fd)
    fd = below
  }
  return fd
}

describe('a container with hostile trees', () => {
  let place: Place
  setUp((held) => {
    place = held.use(new Place())
  })

  for (const [backend, formats] of [
    ['overlay', ['tar', 'ext4']],
    ['copy', ['oci', 'erofs']],
  ] as const) {
    test(`paths longer than Linux takes at once are measured, exported and removed by ${backend}`, async () => {
      const root = await place.provision(backend, backend)
      const bottom = deepen(root, DEEP)
      writeFileSync(`/proc/self/fd/${bottom}/bottom`, 'at the bottom')
      closeSync(bottom)
      const name = 'n'.repeat(254)
      for (let index = 0; index < 50; index += 1)
        writeFileSync(join(root, `${name}${String.fromCharCode(48 + index)}`), '')
      const loam = await place.open()
      const usage = (await loam.store.usage()).containers.find(({ id }) => id === backend)
      assert.ok((usage?.bytes ?? 0) > 0)
      for (const format of formats)
        assert.ok(place.holds(await place.export(backend, format), 'at the bottom'), format)
      const isTold = place.notes.some((text) => text.includes('paths are longer than 4095 bytes'))
      assert.ok(isTold, place.notes.join('\n'))
      const shown = join(place.folder, 'shown')
      mkdirSync(shown, { recursive: true })
      execFileSync('mount', ['-o', 'loop,ro', await place.export(backend, 'erofs'), shown])
      const found = execFileSync('find', ['.', '-name', LEVEL, '-printf', 'x'], { cwd: shown })
      assert.equal(found.length, DEEP)
      unmountAll(shown)
      assert.equal(await loam.destroy(backend), true)
      assert.equal(existsSync(root), false)
    })
  }

  test('6,000 directories in each other are measured, exported as a disk, and removed', async () => {
    const root = await place.provision('deepest', 'overlay')
    closeSync(deepen(root, DEEPEST))
    const loam = await place.open()
    await loam.store.usage()
    await place.export('deepest', 'erofs')
    assert.equal(await loam.destroy('deepest'), true)
    // The rest of a killed process is swept.
    for (const area of ['trash', 'ingest', 'containers']) {
      const left = join(place.folder, 'store', area, 'left')
      mkdirSync(left)
      closeSync(deepen(left, DEEP))
    }
    const { failed } = await loam.recover()
    assert.deepEqual(failed, [])
    for (const area of ['trash', 'containers'])
      assert.deepEqual(readdirSync(join(place.folder, 'store', area)), [])
  })

  test('a mount in a container is not exported and not measured, whatever its file system is', async () => {
    const root = await place.provision('mounts', 'copy')
    const host = join(place.folder, 'host')
    mkdirSync(join(root, 'folder'))
    writeFileSync(join(root, 'file'), '')
    execFileSync('mount', ['--bind', host, join(root, 'folder')])
    execFileSync('mount', ['--bind', join(host, 'secret'), join(root, 'file')])
    for (const format of FORMATS) {
      place.notes.length = 0
      assert.equal(place.holds(await place.export('mounts', format), CANARY), false, format)
      const notes = place.notes.filter((text) => text.startsWith('left out /f'))
      assert.deepEqual(notes, [
        'left out /file: something is mounted there',
        'left out /folder: something is mounted there',
      ])
    }
    const loam = await place.open()
    await loam.destroy('mounts')
    assert.equal(readFileSync(join(host, 'secret'), 'utf8'), CANARY)
  })

  test('a mount that appears while a tree is removed is unmounted, and not emptied', () => {
    const host = join(place.folder, 'host')
    const tree = join(place.folder, 'tree')
    mkdirSync(join(tree, 'a/folder'), { recursive: true })
    writeFileSync(join(tree, 'a/file'), '')
    execFileSync('mount', ['--bind', host, join(tree, 'a/folder')])
    execFileSync('mount', ['--bind', join(host, 'secret'), join(tree, 'a/file')])
    // Through a descriptor the table of mounts shows another path.
    const fd = openDirectory(place.folder)
    removeTreeSync(`/proc/self/fd/${fd}/tree`)
    closeSync(fd)
    assert.equal(existsSync(tree), false)
    assert.deepEqual(readdirSync(host), ['secret'])
  })

  test('files that their flags protect are removed with their container', async () => {
    const root = await place.provision('flags', 'copy')
    mkdirSync(join(root, 'a/b'), { recursive: true })
    writeFileSync(join(root, 'a/b/file'), 'x')
    for (const [flag, path] of [
      ['+i', 'a/b/file'],
      ['+a', 'a/b'],
      ['+i', 'a'],
      ['+i', ''],
    ] as const)
      execFileSync('chattr', [flag, join(root, path)])
    const loam = await place.open()
    assert.equal(await loam.destroy('flags'), true)
    assert.deepEqual((await loam.recover()).failed, [])
  })

  test('an entry that cannot be removed is reported, does not keep others from being removed, and the store opens', async () => {
    const loam = await place.open()
    const trash = join(place.folder, 'store/trash')
    for (const name of ['first', 'second', 'third']) {
      mkdirSync(join(trash, name, 'd'), { recursive: true })
      writeFileSync(join(trash, name, 'd/kept'), '')
      writeFileSync(join(trash, name, 'd/other'), '')
    }
    execFileSync('chattr', ['+i', join(trash, 'second/d/kept')])
    const weak = (...words: readonly string[]) =>
      spawnSync(
        'setpriv',
        [
          '--bounding-set=-linux_immutable',
          process.execPath,
          programPath('loam'),
          ...place.flags,
          '--json',
          ...words,
        ],
        { encoding: 'utf8' },
      )
    for (const command of ['recover', 'prune']) {
      const { stdout, status } = weak(command)
      const { failed } = JSON.parse(stdout) as { failed: { what: string; reason: string }[] }
      assert.equal(status, 1)
      assert.deepEqual(
        failed.map(({ what }) => what),
        [join(trash, 'second')],
      )
      assert.match(failed[0]?.reason ?? '', /not permitted.*'kept'/)
    }
    assert.deepEqual(readdirSync(trash), ['second'])
    assert.deepEqual(readdirSync(join(trash, 'second/d')), ['kept'])
    assert.equal(weak('ps').status, 0)
    assert.deepEqual((await loam.recover()).failed, [])
    assert.deepEqual(readdirSync(trash), [])
  })
})
