// Layers out of random entries, for tests that compare two ways to the same tree.
import * as fc from 'fast-check'
import { isLoamError } from '../../src/errors/index.ts'
import { TarReader } from '../../src/tar/index.ts'
import { type BuildEntry, buildTar } from '../../src/testing/index.ts'
import { type FileTree, LayerTreeBuilder } from '../../src/tree/index.ts'

export interface ReadLayer {
  readonly tree: FileTree
  readonly tar: Buffer
}

/** Creates a tar of entries, and its tree. */
export function readLayer(entries: readonly BuildEntry[]): ReadLayer {
  const builder = new LayerTreeBuilder()
  const reader = new TarReader((entry) => {
    builder.add(entry)
  })
  const tar = buildTar(entries)
  reader.write(tar)
  reader.end()
  return { tree: builder.tree, tar }
}

const name = fc.oneof(
  fc.constantFrom('a', 'b', 'c', 'dir', '!', '-x', '.hidden', 'ÿ'),
  fc.string({ minLength: 1, maxLength: 40, unit: fc.constantFrom('a', 'b', '-', ' ', 'é') }),
)
const attributes = {
  mode: fc.integer({ min: 0, max: 0o7777 }),
  uid: fc.constantFrom(0, 1000, 65535, 65536, 4_000_000_000),
  gid: fc.constantFrom(0, 65536),
  mtimeSeconds: fc.constantFrom(0, 1, -1, 1_700_000_000, 2 ** 33),
  mtimeNanoseconds: fc.constantFrom(0, 999_999_999),
}
/** Linux supports `user.` only on files and directories, and ext4 4 KiB for each. */
const xattrs = (names: readonly string[]) =>
  fc.oneof(
    fc.constant({}),
    fc.dictionary(fc.constantFrom(...names), fc.string({ maxLength: 300 }), { maxKeys: 3 }),
    fc.constant({ 'trusted.large': 'x'.repeat(2500) }),
  )
const ofFiles = { ...attributes, xattrs: xattrs(['user.a', 'trusted.b', 'security.c']) }
const ofOthers = { ...attributes, xattrs: xattrs(['trusted.b', 'trusted.d', 'security.c']) }
const path = fc.array(name, { minLength: 1, maxLength: 3 }).map((parts) => parts.join('/'))
const entry: fc.Arbitrary<BuildEntry> = fc.oneof(
  fc.record({ ...ofFiles, name: path, data: fc.string({ maxLength: 1500 }) }),
  fc.record({ ...ofFiles, name: path.map((text) => `${text}/`) }),
  fc.record({
    ...ofOthers,
    name: path,
    type: fc.constant('symlink' as const),
    linkName: fc.string({ minLength: 1, maxLength: 900, unit: fc.constantFrom('x', '/') }),
  }),
  fc.record({ name: path, type: fc.constant('hardlink' as const), linkName: path }),
  fc.record({
    ...ofOthers,
    name: path,
    type: fc.constantFrom('character' as const, 'block' as const),
    deviceMajor: fc.constantFrom(0, 4095),
    deviceMinor: fc.constantFrom(0, 255, 256, 1_048_575),
  }),
  fc.record({ ...ofOthers, name: path, type: fc.constant('fifo' as const) }),
  fc.record({ name: path.map((text) => text.replace(/[^/]*$/, '.wh.$&')) }),
  fc.record({ name: path.map((text) => text.replace(/[^/]*$/, '.wh..wh..opq')) }),
)

/** A layer out of random entries; those that no tar may hold are left out. */
export const randomLayer: fc.Arbitrary<ReadLayer> = fc.array(entry, { maxLength: 25 }).map(readAccepted)

const denseName = fc.constantFrom('a', 'b', 'c')
const densePath = fc.array(denseName, { minLength: 1, maxLength: 3 }).map((parts) => parts.join('/'))
const denseAttributes = {
  mode: fc.constantFrom(0o755, 0o700),
  uid: fc.constantFrom(0, 7),
  xattrs: fc.constantFrom({}, { 'trusted.x': '1' }),
}
const denseEntry: fc.Arbitrary<BuildEntry> = fc.oneof(
  fc.record({ ...denseAttributes, name: densePath, data: fc.constantFrom('', 'x', 'yy') }),
  fc.record({ ...denseAttributes, name: densePath.map((text) => `${text}/`) }),
  fc.record({
    name: densePath,
    type: fc.constant('symlink' as const),
    linkName: fc.constantFrom('a', '../b', '/c/a', 'nowhere'),
  }),
  fc.record({ name: densePath, type: fc.constant('hardlink' as const), linkName: densePath }),
  fc.record({ name: densePath, type: fc.constant('fifo' as const) }),
  { weight: 3, arbitrary: fc.record({ name: densePath.map((text) => text.replace(/[^/]*$/, '.wh.$&')) }) },
  fc.record({ name: densePath.map((text) => text.replace(/[^/]*$/, '.wh..wh..opq')) }),
)

/** A layer whose entries collide with those of others under few names: whiteouts, opaque marks, links and types in each other's places. */
export const denseLayer: fc.Arbitrary<ReadLayer> = fc.array(denseEntry, { maxLength: 8 }).map(readAccepted)

function readAccepted(entries: readonly BuildEntry[]): ReadLayer {
  const kept: BuildEntry[] = []
  for (const candidate of entries) {
    try {
      readLayer([...kept, candidate])
      kept.push(candidate)
    } catch (error) {
      if (!isLoamError(error)) throw error
    }
  }
  // A counterexample is shown by its entries.
  return Object.assign(readLayer(kept), { [fc.toStringMethod]: () => JSON.stringify(kept) })
}
