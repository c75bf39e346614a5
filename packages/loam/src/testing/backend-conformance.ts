import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import {
  existsSync,
  linkSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { type Loam, openLoam } from '../app/index.ts'
import { isLoamError } from '../errors/index.ts'
import { findMountsBelow } from '../linux/index.ts'
import { type BuildEntry, buildImage, buildTar, writeOciLayout } from './image-builder.ts'
import { LOWER_LINK, ODD_BASE, ODD_TOP, ODD_UNLISTED } from './sample-layers.ts'
import { setUp } from './set-up.ts'
import { listTree } from './tree-listing.ts'

export interface ConformanceOptions {
  /** Name of the backend. */
  readonly backend: string
  readonly isWritable: boolean
  /** The number of layers that it supports. */
  readonly maxLayers: number
  /** Folder for the store; a new one of the system's temporary folder by default. */
  readonly folder?: string
}

const MANY = 130

/**
 * The contract of every backend, as tests of node:test. A backend for one layer has to pass the tests with one layer.
 * Needs the rights to mount.
 */
export function backendConformance(options: ConformanceOptions): void {
  const { backend, isWritable, maxLayers } = options
  describe(`backend ${backend}`, () => {
    let base: string
    let loam: Loam
    const image = (name: string) => `oci:${join(base, 'layout')}:${name}`
    const containers = () => join(base, 'store, with:odd\\name\n', 'containers')

    setUp(async (held) => {
      base = realpathSync(mkdtempSync(join(options.folder ?? tmpdir(), 'loam-conformance-')))
      held.defer(() => {
        rmSync(base, { recursive: true, force: true })
      })
      writeOciLayout(join(base, 'layout'), createImages())
      const flags = { root: join(base, 'store, with:odd\\name\n'), state: join(base, 'state') }
      loam = held.use(await openLoam({ flags, file: null }))
      held.defer(async () => {
        for (const { id } of await loam.containers.list()) await loam.destroy(id)
      })
    })

    const provision = async (name: string, id: string, isReadOnly = false) =>
      loam.provision(image(name), { backend, id, isReadOnly })

    test('a backend shows the one layer of an image exactly', async () => {
      const { rootfsPath } = await provision('base', 'one')
      assert.deepEqual(listTree(rootfsPath), expectedOf(ODD_BASE))
    })

    test('a backend makes two root filesystems for one container, each with its own uuid', async () => {
      const first = await provision('base', 'two')
      const second = await provision('base', 'two')
      assert.notEqual(first.uuid, second.uuid)
      assert.notEqual(first.rootfsPath, second.rootfsPath)
      assert.equal(await loam.destroy('two'), true)
      assert.ok(!existsSync(first.rootfsPath) && !existsSync(second.rootfsPath))
    })

    test(
      isWritable
        ? 'a backend lets a container write, and shows it to no other'
        : 'a backend for reading refuses every write',
      async () => {
        const { rootfsPath } = await provision('base', 'writer')
        if (!isWritable) {
          assert.throws(() => {
            writeFileSync(join(rootfsPath, 'file'), 'x')
          }, /EROFS/)
          return
        }
        writeFileSync(join(rootfsPath, 'file'), 'x')
        writeFileSync(join(rootfsPath, 'bin/su'), 'changed')
        const other = await provision('base', 'other')
        assert.ok(!existsSync(join(other.rootfsPath, 'file')))
        assert.equal(readFileSync(join(other.rootfsPath, 'bin/su'), 'utf8'), 'setuid')
      },
    )

    test('a backend makes a read-only root filesystem that refuses every write', async () => {
      const { rootfsPath, isReadOnly } = await provision('base', 'read-only', true)
      assert.equal(isReadOnly, true)
      assert.throws(() => {
        writeFileSync(join(rootfsPath, 'file'), 'x')
      }, /EROFS/)
    })

    test('a backend destroys a root filesystem that is in use, and again without an error', async () => {
      const { rootfsPath } = await provision('base', 'busy')
      const entries = readdirSync(rootfsPath)
      assert.ok(entries.length > 0)
      assert.equal(await loam.destroy('busy'), true)
      assert.equal(await loam.destroy('busy'), false)
      assert.deepEqual(findMountsBelow(rootfsPath), [])
    })

    test('a backend destroys nested containers before the one around them', async () => {
      const outer = await provision('base', 'outer')
      const inner = await provision('base', 'outer/inner')
      assert.ok(inner.rootfsPath.startsWith(join(containers(), 'outer', 'containers', 'inner')))
      assert.equal(await loam.destroy('outer'), true)
      assert.ok(!existsSync(outer.rootfsPath) && !existsSync(inner.rootfsPath))
      assert.deepEqual(
        (await loam.containers.list()).filter(({ id }) => id.startsWith('outer')),
        [],
      )
    })

    if (maxLayers === 1) {
      test('a backend refuses an image of several layers and says why', async () => {
        await assert.rejects(provision('stack', 'stack'), (error) => {
          assert.ok(isLoamError(error, 'BACKEND_UNSUPPORTED'))
          assert.match(error.message, /layers/)
          return true
        })
        assert.deepEqual(
          (await loam.containers.list()).filter(({ id }) => id === 'stack'),
          [],
        )
      })
      return
    }

    test('a backend merges layers by the OCI rules', async () => {
      const { rootfsPath } = await provision('stack', 'stack')
      const listing = listTree(rootfsPath)
      const names = listing.map((line) => String(JSON.parse(/^"(?:[^"\\]|\\.)*"/.exec(line)?.[0] ?? '""')))
      for (const gone of ['replaced/child', 'opaque/below', 'whited/a', 'wh-dir/old'])
        assert.ok(!names.includes(gone), gone)
      for (const shown of ['opaque/own', 'whited/b', 'wh-dir/fresh', 'file-then-dir/child'])
        assert.ok(names.includes(shown), shown)
      assert.ok(!names.some((name) => name.includes('.wh.')), 'no whiteout is seen')
      assert.equal(readFileSync(join(rootfsPath, 'twice'), 'utf8'), 'second')
    })

    test('a backend keeps the attributes of directories that a layer does not list', async () => {
      const { rootfsPath } = await provision('unlisted', 'unlisted')
      const kept = listTree(rootfsPath).filter((line) => line.startsWith('"kept'))
      assert.match(kept[0] ?? '', /^"kept" 40750 7:8 - t=1700000000123456789$/)
      assert.match(kept[1] ?? '', /^"kept\/inner" 40700 9:0 - t=1700000000123456789$/)
      assert.equal(readFileSync(join(rootfsPath, 'kept/inner/file'), 'utf8'), 'below')
      assert.equal(readFileSync(join(rootfsPath, 'kept/inner/added'), 'utf8'), 'above')
    })

    test('a backend makes a hard link into a lower layer one file', async () => {
      const { rootfsPath } = await provision('lower-link', 'lower-link')
      const linked = listTree(rootfsPath).filter((line) => line.includes('same='))
      assert.deepEqual(
        linked.map((line) => /same=(.*)$/.exec(line)?.[1]),
        ['"bin/hard-3"', '"bin/hard-3"', '"bin/hard-3"', '"bin/hard-3"'],
      )
    })

    test('a hard link that is made of a file of the image is that file, under its number', async () => {
      if (!isWritable) return
      const { rootfsPath } = await provision('unlisted', 'linked')
      const [file, link] = [join(rootfsPath, 'kept/inner/file'), join(rootfsPath, 'made-link')]
      linkSync(file, link)
      const [original, linked] = [statSync(file), statSync(link)]
      assert.deepEqual([linked.ino, linked.nlink], [original.ino, 2])
      // As POSIX has it for two names of one file: nothing happens.
      renameSync(link, file)
      assert.deepEqual([readFileSync(file, 'utf8'), readFileSync(link, 'utf8')], ['below', 'below'])
    })

    test(`a backend stacks ${MANY} layers, one of them twice`, async () => {
      const { rootfsPath } = await provision('many', 'many')
      const names = readdirSync(rootfsPath)
      assert.equal(names.length, MANY + 1)
      assert.equal(readFileSync(join(rootfsPath, 'shared'), 'utf8'), 'layer 0')
    })

    test('a backend makes an empty root filesystem of an image without layers', async () => {
      const { rootfsPath } = await provision('empty', 'empty')
      assert.deepEqual(readdirSync(rootfsPath), [])
    })
  })
}

function createImages() {
  const of = (...layers: readonly (readonly BuildEntry[])[]) => buildImage({ tars: layers.map(buildTar) })
  const many = Array.from({ length: MANY }, (_value, index) => [
    { name: `file-${index}`, data: String(index) },
    { name: 'shared', data: `layer ${index}` },
  ])
  return {
    base: of(ODD_BASE),
    stack: of(ODD_BASE, ODD_TOP),
    unlisted: of(ODD_BASE, ODD_TOP, ODD_UNLISTED),
    'lower-link': of(ODD_BASE, LOWER_LINK),
    // The first layer is repeated on top, so that its `shared` wins.
    many: of(...many, many[0] ?? []),
    empty: of(),
  }
}

/** The expected listing of a one-layer image, from its entries alone: the last entry of a name counts. */
function expectedOf(entries: readonly BuildEntry[]): string[] {
  const nameOf = (name: string | Buffer) =>
    Buffer.from(name)
      .toString('latin1')
      .replace(/^\.?\//, '')
      .replace(/\/$/, '')
  const byName = new Map(entries.map((entry) => [nameOf(entry.name), entry]))
  const targets = new Map(
    [...byName].map(([name, entry]) => [
      name,
      entry.type === 'hardlink' ? nameOf(entry.linkName ?? '') : name,
    ]),
  )
  const names = [...byName.keys()].toSorted((a, b) =>
    Buffer.from(a, 'latin1').compare(Buffer.from(b, 'latin1')),
  )
  // A directory's children come before the siblings that sort after it, in the order of a walk.
  const walked = names.toSorted((a, b) => comparePaths(a, b))
  return walked.map((name) => {
    const target = targets.get(name) ?? name
    const entry = byName.get(target)
    if (entry === undefined) throw new Error(`no entry ${target}`)
    const group = walked.filter((other) => targets.get(other) === target)
    const same = group.length > 1 ? ` same=${JSON.stringify(group[0])}` : ''
    return `${describeEntry(name, entry)}${same}`
  })
}

function comparePaths(a: string, b: string): number {
  const [left, right] = [a, b].map((path) => (path === '' ? [] : path.split('/')))
  for (const [index, part] of (left ?? []).entries()) {
    const other = right?.[index]
    if (other === undefined) return 1
    if (part !== other) return Buffer.from(part, 'latin1').compare(Buffer.from(other, 'latin1'))
  }
  return (left?.length ?? 0) - (right?.length ?? 0)
}

const TYPE_BITS = {
  file: 0o100000,
  directory: 0o40000,
  symlink: 0o120000,
  character: 0o20000,
  block: 0o60000,
  fifo: 0o10000,
}

function describeEntry(name: string, entry: BuildEntry): string {
  const isDirectory = Buffer.from(entry.name).at(-1) === 47
  const type = isDirectory ? 'directory' : (entry.type ?? 'file')
  if (type === 'hardlink') throw new Error(`${name} links to a link`)
  // Linux gives every symlink the same mode.
  const mode = type === 'symlink' ? 0o777 : (entry.mode ?? (isDirectory ? 0o755 : 0o644))
  const time = BigInt(entry.mtimeSeconds ?? 0) * 1_000_000_000n + BigInt(entry.mtimeNanoseconds ?? 0)
  const xattrs = Object.entries(entry.xattrs ?? {}).map(
    ([key, value]) => `${key}=${Buffer.from(value).toString('hex')}`,
  )
  const fields = [
    JSON.stringify(name),
    (TYPE_BITS[type] | mode).toString(8),
    `${entry.uid ?? 0}:${entry.gid ?? 0}`,
  ]
  return [...fields, describeData(type, entry), `t=${time}`, ...xattrs].join(' ')
}

function describeData(type: keyof typeof TYPE_BITS, entry: BuildEntry): string {
  const data = Buffer.from(entry.data ?? '')
  if (type === 'file') return `${data.length} ${createHash('sha256').update(data).digest('hex').slice(0, 16)}`
  if (type === 'symlink') return `-> ${Buffer.from(entry.linkName ?? '').toString('latin1')}`
  if (type !== 'character' && type !== 'block') return '-'
  const { deviceMajor = 0, deviceMinor = 0 } = entry
  return `dev ${(deviceMinor & 0xff) + deviceMajor * 256 + (deviceMinor - (deviceMinor & 0xff)) * 4096}`
}
