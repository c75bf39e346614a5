import { readdirSync } from 'node:fs'
import { dirname, isAbsolute, join, relative } from 'node:path'
import { isDeepStrictEqual } from 'node:util'
import type { StorePaths, StoreReserve } from '../content/index.ts'
import { isErrno, LoamError } from '../errors/index.ts'
import { type ChainId, chainIds, type DiffId } from '../image/index.ts'
import { isFull, type LayerStore, makeRoom, type UnknownLayer } from '../layers/index.ts'
import type { MetadataStore, SnapshotRecord } from '../metadata/index.ts'
import { isUnpackedTo } from './keys.ts'
import type { SnapshotMount, SnapshotUsage } from './snapshot-info.ts'
import { FIRST_MOUNT, type SnapshotMounts } from './snapshot-mounts.ts'

export interface AppliedLayersOptions {
  readonly paths: StorePaths
  readonly metadata: MetadataStore
  readonly layers: LayerStore
  readonly reserve: StoreReserve
  readonly mounts: SnapshotMounts
  /** Whether this machine can show layers that are not unpacked. */
  readonly canShow: () => boolean
}

/** A layer that was applied to a snapshot. */
export interface AppliedLayer {
  /** Digest of its tar. */
  readonly diffId: DiffId
  /** Size of its tar. */
  readonly tarBytes: number
}

/** The layer that a snapshot becomes by its commit. */
export interface CommittedLayer extends AppliedLayer {
  readonly chainId: ChainId
  readonly usage: SnapshotUsage
}

/**
 * Blobs of layers that clients apply to the mounts of a snapshot. Nothing is unpacked: the layer is taken into the store, and the snapshot becomes that
 * layer when it is committed.
 */
export class AppliedLayers {
  readonly #options: AppliedLayersOptions

  constructor(options: AppliedLayersOptions) {
    this.#options = options
  }

  /**
   * Takes the layer of a blob for the snapshot that mounts write to. Undefined if the client has to unpack it: the mounts are not those of an empty snapshot
   * that is unpacked to on layers, or this machine cannot show the layer. @throws the errors of the blob's source, those of a damaged or refused layer, and
   * SNAPSHOT_INVALID if the snapshot has another layer already, or has changed meanwhile
   */
  async apply(
    mounts: readonly SnapshotMount[],
    layer: UnknownLayer,
    signal: AbortSignal | undefined,
  ): Promise<AppliedLayer | undefined> {
    const { layers, metadata, canShow } = this.#options
    const snapshot = this.#findTarget(mounts)
    if (snapshot === undefined || !canShow()) return undefined
    const { diffId, lease } = await this.#add(layer, signal)
    using _lease = lease
    const { summary, tarBytes } = layers.get(diffId)
    if (summary.hasZeroDevices) return undefined
    // A commit is on the disk, and its layer is then, too.
    await layers.sync([diffId])
    return await metadata.snapshots.transaction(() => {
      const current = this.#findTarget(mounts)
      if (current?.id !== snapshot.id)
        throw invalid(snapshot.key, 'it was changed while a layer was applied to it')
      const { appliedDiffId = diffId, key } = current
      if (appliedDiffId !== diffId) throw invalid(key, 'another layer was applied to it already')
      metadata.snapshots.setApplied(snapshot.id, diffId)
      return { diffId, tarBytes }
    })
  }

  /** On a full disk, removes what nothing needs and tries again; a layer that does not fit even then leaves nothing. */
  async #add(layer: UnknownLayer, signal: AbortSignal | undefined): ReturnType<LayerStore['add']> {
    const { layers } = this.#options
    try {
      return await layers.add(layer, signal)
    } catch (error) {
      if (!isFull(error)) throw error
      await makeRoom(this.#options)
    }
    try {
      return await layers.add(layer, signal)
    } catch (error) {
      if (isFull(error)) await makeRoom(this.#options)
      throw error
    }
  }

  /** Only what a client unpacks to and commits: other snapshots it may mount at once, and would not see the layer. */
  #findTarget(mounts: readonly SnapshotMount[]): SnapshotRecord | undefined {
    const { metadata, paths } = this.#options
    const [mount, other] = mounts
    if (mount === undefined || other !== undefined) return undefined
    const folder = writtenFolder(mount)
    const id = folder === undefined ? undefined : snapshotOf(paths, folder)
    const snapshot = id === undefined ? undefined : metadata.snapshots.get(id)
    if (
      snapshot?.kind !== 'active' ||
      snapshot.idMapping !== undefined ||
      snapshot.maxBytes !== undefined ||
      !isUnpackedTo(snapshot.key)
    )
      return undefined
    if (!isEmpty(folderOf(paths, snapshot.id))) return undefined
    const [, parent] = metadata.snapshots.chain(snapshot.id)
    return parent === undefined || parent.diffId !== undefined ? snapshot : undefined
  }

  /**
   * Finds the unpacked snapshot whose changes are what differs between the mounts of its parent and its own; undefined for all other mounts.
   */
  findChange(left: readonly SnapshotMount[], right: readonly SnapshotMount[]): SnapshotRecord | undefined {
    const { metadata, paths } = this.#options
    if (left.length > 2) return undefined
    const [own = '', ...lowers] = foldersOf(right)
    const id = snapshotOf(paths, own)
    const snapshot = id === undefined ? undefined : metadata.snapshots.get(id)
    if (snapshot === undefined || snapshot.kind === 'view' || snapshot.diffId !== undefined) return undefined
    const base = foldersOf(left)
    const hasSameBase = isDeepStrictEqual(base, lowers) || (lowers.length === 0 && this.#isNothing(base))
    return hasSameBase ? snapshot : undefined
  }

  /** A client mounts an empty view for a snapshot without a parent. */
  #isNothing(folders: readonly string[]): boolean {
    const { metadata, paths } = this.#options
    const [folder, other] = folders
    const id = folder === undefined || other !== undefined ? undefined : snapshotOf(paths, folder)
    const view = id === undefined ? undefined : metadata.snapshots.get(id)
    return view?.kind === 'view' && view.parentId === undefined
  }

  /**
   * Returns the layer that an active snapshot becomes on a parent; undefined if none was applied. @throws SNAPSHOT_INVALID if the snapshot was written to
   * after that, or its parent is unpacked
   */
  committed(active: SnapshotRecord, parent: SnapshotRecord | undefined): CommittedLayer | undefined {
    const { layers, mounts, paths } = this.#options
    const { appliedDiffId: diffId, key } = active
    if (diffId === undefined) return undefined
    if (!isEmpty(folderOf(paths, active.id))) throw invalid(key, 'it has files besides its layer')
    if (parent !== undefined && parent.diffId === undefined)
      throw invalid(key, 'its layer cannot be on a snapshot that is unpacked')
    const below = parent === undefined ? [] : mounts.layersBelow(parent.id)
    const chainId = chainIds([...below, diffId]).at(-1)
    if (chainId === undefined) throw new LoamError('INTERNAL', 'commit snapshot: a chain without layers')
    const { summary, tarBytes } = layers.get(diffId)
    return { diffId, chainId, tarBytes, usage: { sizeBytes: tarBytes, inodes: summary.entries } }
  }
}

function invalid(key: string, why: string): LoamError {
  return new LoamError('SNAPSHOT_INVALID', `snapshot ${JSON.stringify(key)}: ${why}`)
}

/** The directory that a mount writes to; undefined if it writes to none. */
function writtenFolder({ type, source, options }: SnapshotMount): string | undefined {
  if (type === 'bind') return options.includes('ro') ? undefined : source
  return options.find((option) => option.startsWith('upperdir='))?.slice('upperdir='.length)
}

/** The directories that mounts show, the topmost first, and in the place of layers that the client mounts their image. */
function foldersOf(mounts: readonly SnapshotMount[]): string[] {
  const mount = mounts.at(-1)
  if (mount === undefined || mounts.length > 2) return []
  const { type, source, options } = mount
  if (type === 'bind' || type === 'erofs') return [source]
  const valueOf = (name: string) => options.find((option) => option.startsWith(name))?.slice(name.length)
  const upper = valueOf('upperdir=')
  const lowers = valueOf('lowerdir=')?.split(':') ?? []
  const image = mounts[0]?.source ?? ''
  return [
    ...(upper === undefined ? [] : [upper]),
    ...lowers.map((lower) => (lower === FIRST_MOUNT ? image : lower)),
  ]
}

/** Returns the number of the snapshot that has a directory of files. */
function snapshotOf(paths: StorePaths, folder: string): number | undefined {
  const name = relative(paths.snapshots, dirname(folder))
  if (isAbsolute(name) || !/^\d{1,15}$/.test(name)) return undefined
  return folder === folderOf(paths, Number(name)) ? Number(name) : undefined
}

function folderOf(paths: StorePaths, id: number): string {
  return join(paths.snapshots, String(id), 'fs')
}

/** A power cut may have removed a directory that was empty. */
function isEmpty(folder: string): boolean {
  try {
    return readdirSync(folder).length === 0
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return true
    throw error
  }
}
