// Outputs in directories that a container or another user changes at the same time.
import assert from 'node:assert/strict'
import {
  chownSync,
  existsSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, test } from 'node:test'
import { describeBytes, MEDIA_TYPES, parseDiffId } from '../image/index.ts'
import { isRoot, type OutputTarget, searchPath } from '../linux/index.ts'
import { createExt4 } from './ext4.ts'
import { openLayoutSink } from './layout-sink.ts'
import { writeOciLayout } from './oci-layout.ts'
import { writeOutput } from './output.ts'

const options = { mayReplace: () => true, force: true, mode: 0o644 }
let folder = ''
let shared = ''
/** A file that only root may read and write. */
let victim = ''
/** A directory of this machine. */
let elsewhere = ''

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'loam-hostile-'))
  shared = join(folder, 'shared')
  victim = join(folder, 'victim')
  elsewhere = join(folder, 'elsewhere')
  mkdirSync(shared)
  mkdirSync(elsewhere)
  writeFileSync(victim, 'precious', { mode: 0o600 })
})
afterEach(() => {
  const { mode } = statSync(victim)
  const found = [readFileSync(victim, 'utf8'), (mode & 0o777).toString(8), readdirSync(elsewhere)]
  rmSync(folder, { recursive: true })
  assert.deepEqual(found, ['precious', '600', []])
})

const privateFolder = () => join(shared, readdirSync(shared).find((name) => name.includes('.loam-')) ?? '')
const writeNew = (target: OutputTarget) => {
  writeFileSync(String(target), 'content', { flag: 'wx' })
}

test('a private folder that is moved, and one with a symlink in its place, do not lead an output elsewhere', async () => {
  await writeOutput(join(shared, 'file'), options, async (target) => {
    const place = privateFolder()
    renameSync(place, join(shared, 'moved'))
    mkdirSync(place)
    symlinkSync(victim, join(place, 'output'))
    writeNew(target)
    return Promise.resolve()
  })
  assert.equal(readFileSync(join(shared, 'file'), 'utf8'), 'content')
  assert.equal((statSync(join(shared, 'file')).mode & 0o777).toString(8), '644')
})

test('a symlink, or a link to a file of another owner, in the place of an output gets no mode', async () => {
  const links: readonly ((path: string) => void)[] = [
    (path) => {
      symlinkSync(victim, path)
    },
    (path) => {
      chownSync(victim, 65534, 65534)
      linkSync(victim, path)
    },
  ]
  for (const link of links.slice(0, isRoot() ? 2 : 1)) {
    const written = writeOutput(join(shared, 'file'), options, async (target) => {
      writeNew(target)
      rmSync(String(target))
      link(String(target))
      return Promise.resolve()
    })
    await assert.rejects(written, {
      code: 'OUTPUT_EXISTS',
      message: /file.*: another file has taken its place/,
    })
    assert.deepEqual(readdirSync(shared), [])
  }
})

test('a directory that takes the place of one that may be replaced stays as it is', async () => {
  const path = join(shared, 'layout')
  mkdirSync(path)
  mkdirSync(join(shared, 'other'))
  writeFileSync(join(shared, 'other', 'file'), 'content')
  const written = writeOutput(path, options, async (target) => {
    mkdirSync(String(target))
    renameSync(path, join(shared, 'moved'))
    renameSync(join(shared, 'other'), path)
    return Promise.resolve()
  })
  await assert.rejects(written, { code: 'OUTPUT_EXISTS' })
  assert.deepEqual([readdirSync(shared), readdirSync(path)], [['layout', 'moved'], ['file']])
})

test('a symlink in the place of an ext4 file system is not formatted', async () => {
  const output = join(shared, 'output')
  symlinkSync(victim, output)
  const made = createExt4({
    survey: { bytes: 0, inodes: 1, maxXattrBytes: 0, hasWideTimes: false },
    fill: async () => Promise.resolve(),
    sync: async () => Promise.resolve(),
    newFolder: () => join(folder, 'unfinished'),
    output,
    sizeBytes: undefined,
    path: searchPath(process.env),
    onNote: () => undefined,
    signal: undefined,
  })
  await assert.rejects(made, { message: new RegExp(`EEXIST.*'${output}'`) })
})

test('symlinks in the place of the files and directories of a layout lead it nowhere', async () => {
  // On a file system that shares no data with that of the output.
  const layer = '/proc/version'
  const diffId = parseDiffId(describeBytes(MEDIA_TYPES.ociLayer, Buffer.from('layer')).digest)
  const config = { architecture: 'amd64', os: 'linux', rootfs: { type: 'layers', diff_ids: [diffId] } }
  const image = { readConfig: () => Buffer.from(JSON.stringify(config)), name: undefined }
  const attacks: readonly ((layout: string) => void)[] = [
    (layout) => {
      symlinkSync(victim, join(layout, 'index.json'))
    },
    (layout) => {
      renameSync(join(layout, 'blobs'), join(layout, 'moved'))
      symlinkSync(elsewhere, join(layout, 'blobs'))
      mkdirSync(join(folder, 'sha256'))
    },
    (layout) => {
      renameSync(join(layout, 'blobs/sha256'), join(layout, 'moved'))
      symlinkSync(elsewhere, join(layout, 'blobs/sha256'))
    },
  ]
  for (const [index, attack] of attacks.entries()) {
    const layout = join(shared, String(index))
    const layers = [
      { diffId, tarPath: layer },
      { diffId: parseDiffId(`sha256:${'0'.repeat(64)}`), tarPath: layer },
    ]
    let copies = 0
    const written = writeOciLayout(layout, image, layers, {
      copy: async (_path, target) => {
        copies += 1
        if (copies === 1) attack(layout)
        writeNew(target)
        return Promise.resolve()
      },
    })
    await (index === 0
      ? assert.rejects(written, { message: new RegExp(`EEXIST.*'${layout}/index.json'`) })
      : written)
  }
})

test('an image is copied into a layout through no symlink', async () => {
  const [blob, manifest] = [Buffer.from('blob'), Buffer.from('{}')].map((bytes) => ({
    bytes,
    ...describeBytes(MEDIA_TYPES.ociManifest, bytes),
  }))
  assert.ok(blob !== undefined && manifest !== undefined)
  const place = join(shared, 'layout')
  const copy = async () => {
    using sink = openLayoutSink(place, undefined)
    await sink.putBlob(blob, async function* () {
      yield blob.bytes
      return Promise.resolve()
    })
    await sink.putImage(manifest, [])
  }
  await copy()
  assert.ok(existsSync(join(place, 'index.json')))
  for (const name of ['blobs/sha256', 'blobs', 'index.json', 'oci-layout', '.']) {
    renameSync(join(place, name), join(folder, 'moved'))
    const target = name.includes('.json') || name.includes('oci') ? victim : elsewhere
    symlinkSync(target, join(place, name))
    await assert.rejects(copy(), /symlink|ELOOP|not a regular file/, name)
    rmSync(join(place, name))
    renameSync(join(folder, 'moved'), join(place, name))
  }
  // Who ends its path with a slash means what the link leads to.
  const link = join(shared, 'link-to-layout')
  symlinkSync(place, link)
  assert.throws(() => openLayoutSink(link, undefined), { code: 'USAGE', hint: /end the path with one/ })
  openLayoutSink(`${link}/`, undefined)[Symbol.dispose]()
})
