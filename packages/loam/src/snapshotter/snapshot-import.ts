/*
 * The folders of containerd's first overlay snapshotter (February to March 2017):
 *   committed/<sha256 of the name>/{name,fs/,parent -> …/committed/<hash>}
 *   active/<hash>/{name,fs/,work/,parent}       without work: a view
 *   index/<hash> -> …/{active,committed}/<hash>
 * The import ignores the index: after a kill it could be older than the folders, which contain all its information.
 */
import { existsSync, lstatSync, readdirSync, readlinkSync } from 'node:fs'
import { basename, join } from 'node:path'
import { type Failure, LoamError, throwIfAborted, toLoamError } from '../errors/index.ts'
import { readRegular } from '../linux/index.ts'
import { type CopyParts, copyUpper } from './copy-upper.ts'
import type { SnapshotInfo } from './snapshot-info.ts'
import type { Snapshotter } from './snapshotter.ts'

const MAX_NAME_BYTES = 64 << 10

/** The result of an import of snapshots. */
export interface SnapshotImportReport {
  /** Snapshots that are in this store now. */
  readonly snapshots: readonly Pick<SnapshotInfo, 'name' | 'parent' | 'kind'>[]
  /** Snapshots that were not imported, with the reason. */
  readonly failed: readonly Failure[]
  /** Files and attributes that are not in the copies: sockets, mounts in a folder, xattrs that layers do not carry. */
  readonly notes: readonly string[]
}

interface FoundSnapshot extends Pick<SnapshotInfo, 'name' | 'kind'> {
  readonly folder: string
  /** Folder name of its parent. */
  readonly parentHash: string | undefined
}

/** Copies all snapshots of a folder, parents first. Containers may run on them meanwhile. @throws SOURCE_NOT_FOUND, CANCELED */
export async function importSnapshots(
  snapshotter: Snapshotter,
  parts: CopyParts,
  root: string,
  signal: AbortSignal | undefined,
): Promise<SnapshotImportReport> {
  if (!['active', 'committed', 'index'].every((name) => existsSync(join(root, name)))) {
    throw new LoamError(
      'SOURCE_NOT_FOUND',
      `import ${root}: the directories active, committed and index are missing`,
      {
        hint: 'Current versions of containerd keep their own snapshots: pull the images again with --snapshotter loam.',
      },
    )
  }
  const failed: { what: string; reason: string }[] = []
  const notes: string[] = []
  const fail = (what: string, error: unknown) =>
    failed.push({ what, reason: toLoamError(error, 'import').message })
  const committed = readAll(join(root, 'committed'), fail)
  const waiting = [...committed.values(), ...readAll(join(root, 'active'), fail).values()]
  const done = new Map<string, string>()
  const snapshots: Pick<SnapshotInfo, 'name' | 'parent' | 'kind'>[] = []
  const lost = new Set<string>()
  const take = async (snapshot: FoundSnapshot): Promise<void> => {
    const { name, kind, folder, parentHash } = snapshot
    const parent = parentHash === undefined ? '' : done.get(parentHash)
    if (parent === undefined)
      throw new LoamError('SNAPSHOT_NOT_FOUND', `import ${JSON.stringify(name)}: its parent is missing`)
    await snapshotter.adopt({ name, kind, parent }, async (target) => {
      const { leftOut } = await copyUpper(parts, { from: join(folder, 'fs'), to: target }, signal)
      notes.push(...leftOut.map((text) => `${JSON.stringify(name)}: ${text}`))
    })
    if (kind === 'committed') done.set(basename(folder), name)
    snapshots.push({ name, kind, parent })
  }
  for (const snapshot of waiting) {
    // Those below it first; a chain that leads back to itself has no base.
    const chain: FoundSnapshot[] = []
    for (
      let next: FoundSnapshot | undefined = snapshot;
      next !== undefined &&
      !chain.includes(next) &&
      !done.has(basename(next.folder)) &&
      !lost.has(next.folder);
      next = next.parentHash === undefined ? undefined : committed.get(next.parentHash)
    ) {
      chain.push(next)
    }
    for (const next of chain.toReversed()) {
      throwIfAborted(signal, `import ${root}`)
      try {
        await take(next)
      } catch (error) {
        throwIfAborted(signal, `import ${root}`)
        lost.add(next.folder)
        fail(next.folder, error)
      }
    }
  }
  return { snapshots, failed, notes }
}

function readAll(folder: string, fail: (what: string, error: unknown) => void): Map<string, FoundSnapshot> {
  const found = new Map<string, FoundSnapshot>()
  for (const hash of readdirSync(folder).toSorted()) {
    const path = join(folder, hash)
    try {
      found.set(hash, readOne(path))
    } catch (error) {
      fail(path, error)
    }
  }
  return found
}

function readOne(folder: string): FoundSnapshot {
  const namePath = join(folder, 'name')
  if (!lstatSync(join(folder, 'fs')).isDirectory() || !lstatSync(namePath).isFile()) {
    throw new LoamError('SOURCE_INVALID', `read ${folder}: it is not a snapshot`)
  }
  const name = readRegular(namePath, MAX_NAME_BYTES).toString('utf8')
  const isCommitted = basename(join(folder, '..')) === 'committed'
  const kind = isCommitted ? 'committed' : existsSync(join(folder, 'work')) ? 'active' : 'view'
  const isChild = lstatSync(join(folder, 'parent'), { throwIfNoEntry: false })?.isSymbolicLink() ?? false
  return {
    name,
    kind,
    folder,
    parentHash: isChild ? basename(readlinkSync(join(folder, 'parent'))) : undefined,
  }
}
