import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { captureHost } from '../../test/support/captured-host.ts'
import { type Loam, openLoam } from '../app/index.ts'
import { runCommandLine } from '../cli/main.ts'
import { buildImage, buildTar, writeOciLayout } from '../testing/index.ts'

const BASE = buildTar([
  { name: 'etc/' },
  { name: 'etc/os', data: 'x'.repeat(100) },
  { name: 'etc/old', data: 'x'.repeat(1000) },
  { name: 'lib/a', data: 'x'.repeat(5000), mode: 0o644 },
  { name: 'lib/sub/b', data: 'b'.repeat(300) },
  { name: 'lib/same', data: 'same' },
  { name: 'tool', type: 'symlink', linkName: 'lib/a' },
])
const TOP = buildTar([
  { name: 'etc/.wh.old' },
  { name: 'etc/os', data: 'y'.repeat(200) },
  { name: 'lib/.wh.sub' },
  { name: 'opt/new', data: 'z'.repeat(7) },
])
/** The same tree as BASE with TOP, but for a mode, a target and an owner; times differ everywhere. */
const OTHER = buildTar([
  { name: 'etc/', mtimeSeconds: 5 },
  { name: 'etc/os', data: 'y'.repeat(200), uid: 7 },
  { name: 'lib/a', data: 'x'.repeat(5000), mode: 0o755 },
  { name: 'lib/same', data: 'same', mtimeSeconds: 5 },
  { name: 'opt/new', data: 'Z'.repeat(7) },
  { name: 'opt/more/deep', data: 'q' },
  { name: 'tool', type: 'symlink', linkName: 'lib/b' },
])

const folder = mkdtempSync(join(tmpdir(), 'loam-layers-'))
const flags = { root: join(folder, 'root'), state: join(folder, 'state') }
let loam: Loam

before(async () => {
  const history = [
    { created: '2026-01-01T00:00:00Z', created_by: '/bin/sh -c #(nop) ADD file' },
    { created_by: 'ENV A=b', empty_layer: true },
    { created_by: 'RUN x', comment: 'buildkit' },
  ]
  writeOciLayout(join(folder, 'layout'), {
    web: buildImage({ tars: [BASE, TOP], withHistory: history }),
    other: buildImage({ tars: [OTHER] }),
  })
  loam = await openLoam({ flags, file: null })
  for (const name of ['web', 'other'])
    await loam.images.put(`oci:${join(folder, 'layout')}:${name}`, `example.com/${name}:1`)
})

after(async () => {
  await loam[Symbol.asyncDispose]()
  rmSync(folder, { recursive: true })
})

test('the history of an image has its steps in order, with the layer of each that made one', async () => {
  const { steps } = await loam.images.history('example.com/web:1')
  assert.deepEqual(
    steps.map(({ createdBy, comment, layer }) => [createdBy, comment, layer?.index]),
    [
      ['/bin/sh -c #(nop) ADD file', '', 0],
      ['ENV A=b', '', undefined],
      ['RUN x', 'buildkit', 1],
    ],
  )
  const other = await loam.images.history('example.com/other:1')
  assert.deepEqual(
    other.steps.map(({ layer }) => layer?.index),
    [0],
  )
})

test('the layers of an image say what each adds, replaces, removes and hides, and what later layers hide of it', async () => {
  const { layers, bytes, files, hiddenBytes } = await loam.images.layers('example.com/web:1', { largest: 2 })
  const [base, top] = layers.map((layer) => ({
    added: layer.addedFiles,
    replaced: layer.replacedFiles,
    removed: layer.removedFiles,
    hides: layer.hidesBytes,
    wasted: layer.hiddenBytes,
    largest: layer.largest,
  }))
  assert.deepEqual(
    { base, top, bytes, files, hiddenBytes },
    {
      base: {
        added: 6,
        replaced: 0,
        removed: 0,
        hides: 0,
        wasted: 1400,
        largest: [
          { path: '/lib/a', bytes: 5000, isHidden: false },
          { path: '/etc/old', bytes: 1000, isHidden: true },
        ],
      },
      top: {
        added: 1,
        replaced: 1,
        removed: 2,
        hides: 1400,
        wasted: 0,
        largest: [
          { path: '/etc/os', bytes: 200, isHidden: false },
          { path: '/opt/new', bytes: 7, isHidden: false },
        ],
      },
      bytes: 5211,
      files: 4,
      hiddenBytes: 1400,
    },
  )
})

test('two images are compared by names, content, mode, owner and target, and by times only on request', async () => {
  const diff = await loam.images.diff('example.com/web:1', 'example.com/other:1')
  assert.deepEqual(
    diff.changes.map(({ kind, path, differences }) => [kind, path, ...differences]),
    [
      ['changed', '/etc/os', 'owner'],
      ['changed', '/lib/a', 'mode'],
      ['added', '/opt/more'],
      ['added', '/opt/more/deep'],
      ['changed', '/opt/new', 'content'],
      ['changed', '/tool', 'target'],
    ],
  )
  assert.deepEqual([diff.added, diff.removed, diff.changed, diff.leftOut], [2, 0, 4, 0])
  const back = await loam.images.diff('example.com/other:1', 'example.com/web:1')
  assert.deepEqual(
    back.changes.filter(({ kind }) => kind === 'removed').map(({ path, type }) => [path, type]),
    [['/opt/more', 'directory']],
  )
  const timed = await loam.images.diff('example.com/web:1', 'example.com/other:1', { times: true })
  assert.deepEqual(timed.changes.find(({ path }) => path === '/lib/same')?.differences, ['time'])
  assert.deepEqual((await loam.images.diff('example.com/web:1', 'example.com/web:1')).changes, [])
})

test('a container is compared with its image where its files are, without a copy of them', async () => {
  const { rootfsPath } = await loam.provision('example.com/web:1', { id: 'compared', backend: 'copy' })
  const at = (path: string) => join(rootfsPath, path)
  writeFileSync(at('lib/same'), Buffer.alloc(statSync(at('lib/same')).size, 'y'))
  writeFileSync(at('opt/.wh.more'), 'a')
  rmSync(at('opt/new'))
  const { changes, from, to } = await loam.images.diff('compared')
  assert.deepEqual(
    changes.map(({ kind, path, differences }) => [kind, path, ...differences]),
    [
      ['changed', '/lib/same', 'content'],
      ['added', '/opt/.wh.more'],
      ['removed', '/opt/new'],
    ],
  )
  assert.deepEqual([from.kind, to.kind, to.name], ['image', 'container', 'compared'])
  await loam.destroy('compared')
})

test('an image alone cannot be compared, and the error names what shows its layers', async () => {
  await assert.rejects(loam.images.diff('example.com/web:1'), { code: 'USAGE', hint: /loam layers/ })
})

/** Runs a command on the store, and returns what it writes to standard output. */
async function written(...args: readonly string[]): Promise<string> {
  const host = captureHost(folder)
  const status = await runCommandLine(['--root', flags.root, '--state', flags.state, ...args], '1', host)
  assert.equal(status, 0, host.said.stderr)
  return host.said.stdout
}

test('the commands show history, layers, sizes and differences as tables, and as JSON', async () => {
  assert.match(await written('history', 'example.com/web:1'), /LAYER +CREATED +CREATED BY +SIZE +COMMENT\n/)
  assert.equal(
    await written('history', '--format', '{{.CreatedBy}}', 'example.com/web:1'),
    'RUN x\nENV A=b\nADD file\n',
  )
  const layers = await written('layers', 'example.com/web:1')
  assert.match(layers, /containers see 4 files, 5\.21 kB; wasted 1\.40 kB \(21\.2 %\)/)
  assert.match(layers, /Largest wasted files:\n +1\.00 kB {2}layer 0 {2}\/etc\/old\n/)
  assert.equal(JSON.parse(await written('--json', 'layers', 'example.com/web:1')).layers.length, 2)
  assert.equal(
    await written('du', '-b', 'example.com/web:1', '/lib'),
    '    5000  /lib/a\n       4  /lib/same\n    5004  /lib/\n',
  )
  assert.equal(await written('du', '-s', 'example.com/web:1'), ' 5.21 kB  /\n')
  assert.match(
    await written('du', '-d', '2', '--layer', '1', 'example.com/web:1'),
    /\/etc\/old {2}\(removed\)\n/,
  )
  assert.match(
    await written('diff', 'example.com/web:1', 'example.com/other:1'),
    /^C \/etc\/os {2}\(owner\)\nC \/lib\/a {2}\(mode\)\nA \/opt\/more\n/,
  )
  assert.equal(
    await written('diff', '--stat', 'example.com/web:1', 'example.com/other:1'),
    'added 2, 1 B\nremoved 0, at least 0 B\nchanged 4, +0 B\n',
  )
})
