import { existsSync, readdirSync } from 'node:fs'
import {
  type BlobStore,
  discard,
  layerPath,
  lockPath,
  STACK_KINDS,
  stackPath,
  type RetainedBlobs,
  type StorePaths,
  type ArtifactKind,
} from '../content/index.ts'
import { faultOfFile, throwIfAborted, toLoamError } from '../errors/index.ts'
import { type DiffId, type Digest, isDigest, parseDiffId } from '../image/index.ts'
import type { LayerStore, WantedArtifact } from '../layers/index.ts'
import { FileLock, TimeSlice } from '../linux/index.ts'
import type {
  CompleteLayer,
  ImageRecord,
  LazySource,
  MetadataStore,
  RootfsRecord,
} from '../metadata/index.ts'
import type { FsckOptions, FsckProblem, FsckReport } from './fsck-report.ts'

/** The parts that a check needs; the last two fetch from the location of an image, and return that location. */
export interface FsckParts {
  readonly paths: StorePaths
  readonly metadata: MetadataStore
  readonly blobs: BlobStore
  readonly layers: LayerStore
  readonly retained: RetainedBlobs
  /** Returns whether a root filesystem exists at the path of its row. */
  readonly isStanding: (rootfs: RootfsRecord) => boolean
  /** Returns whether a process is creating or removing a container now. */
  readonly isBusy: (id: RootfsRecord['containerId']) => boolean
  readonly refetchLayer: (diffId: DiffId, signal: AbortSignal | undefined) => Promise<string>
  readonly refetchDocument: (
    image: ImageRecord,
    digest: Digest,
    signal: AbortSignal | undefined,
  ) => Promise<string>
}

/**
 * Verifies the whole store: every tar against its digest, every metadata image against its tar, every merged image against its layers, every row
 * against the disk and the disk against the rows. With `repair`, refetches or rebuilds only what is damaged. May run concurrently with everything
 * else. Reads every layer once.
 */
export async function checkStore(parts: FsckParts, options: FsckOptions): Promise<FsckReport> {
  return new StoreCheck(parts, options).run()
}

class StoreCheck {
  readonly #parts: FsckParts
  readonly #options: FsckOptions
  readonly #problems: FsckProblem[] = []
  /** Layers whose tar and metadata image are sound. */
  readonly #sound = new Set<DiffId>()
  #mergedImages = 0
  #tarBytes = 0

  constructor(parts: FsckParts, options: FsckOptions) {
    this.#parts = parts
    this.#options = options
  }

  async run(): Promise<FsckReport> {
    const { layers, images, containers } = this.#parts.metadata
    const known = layers.list().filter((layer) => layer.data === 'complete')
    await Promise.all(known.map(async (layer) => this.#checkLayer(layer)))
    const partials = layers.partials()
    for (const source of partials) await this.#checkPartial(source)
    const allImages = images.list()
    for (const image of allImages) await this.#checkImage(image)
    const stacks = this.#findStacks()
    for (const record of layers.listArtifacts()) {
      // An artifact of an earlier generation is rebuilt before it is used.
      if (this.#parts.layers.artifacts.isOutdated(record)) continue
      await this.#checkArtifact(record.owner, record.kind, stacks.get(record.owner))
    }
    await this.#checkFolders()
    await this.#checkRetained()
    const rootfses = containers.rootfses()
    const slice = new TimeSlice()
    for (const rootfs of rootfses) {
      await slice.rest()
      this.#checkRootfs(rootfs)
    }
    return {
      checked: {
        layers: known.length,
        partialLayers: partials.length,
        indexes: known.length,
        images: allImages.length,
        mergedImages: this.#mergedImages,
        rootfses: rootfses.length,
        tarBytes: this.#tarBytes,
      },
      problems: this.#problems,
      deniedIndexes: this.#parts.metadata.lazy.denied(),
    }
  }

  /** Reports a problem, and tries to repair it if that was requested. Returns whether it is repaired. */
  async #report(
    what: string,
    problem: string,
    repair: (() => Promise<string>) | undefined,
    advice?: string,
  ): Promise<boolean> {
    if (!this.#options.repair || repair === undefined) {
      const hint = repair === undefined ? advice : 'loam fsck --repair'
      this.#problems.push({ what, problem, repaired: undefined, advice: hint })
      return false
    }
    try {
      this.#problems.push({ what, problem, repaired: await repair(), advice })
      return true
    } catch (error) {
      throwIfAborted(this.#options.signal, `repair ${what}`)
      const { message } = toLoamError(error, 'repair')
      this.#problems.push({
        what,
        problem,
        repaired: undefined,
        advice: `repair failed: ${message}`,
      })
      return false
    }
  }

  async #checkLayer(layer: CompleteLayer): Promise<void> {
    const { layers } = this.#parts
    const { diffId, tarBytes } = layer
    const { signal, onCheck, onProgress } = this.#options
    const what = `layer ${diffId}`
    onCheck?.(what)
    const tell = (doneBytes: number, isDone: boolean) =>
      onProgress?.({ what, doneBytes, totalBytes: tarBytes, isDone })
    tell(0, false)
    const problem = await layers.checkTar(diffId, tarBytes, signal, (doneBytes) => {
      tell(doneBytes, false)
    })
    tell(tarBytes, true)
    this.#tarBytes += tarBytes
    if (problem !== undefined) {
      const isMended = await this.#report(
        what,
        problem,
        async () => `refetched from ${await this.#parts.refetchLayer(diffId, signal)}`,
        this.#adviseUsers(diffId),
      )
      if (isMended) this.#sound.add(diffId)
      return
    }
    const wanted = { owner: diffId, kind: 'meta', layers: [diffId] } as const
    // An artifact of an earlier generation is rebuilt before it is used.
    const mismatch = layers.isOutdated(layer)
      ? undefined
      : await this.#findMismatch(wanted, 'its metadata image', 'its tar')
    if (mismatch === undefined) {
      this.#sound.add(diffId)
      return
    }
    const isMended = await this.#report(what, mismatch, async () => {
      await layers.artifacts.rebuild(wanted, signal)
      return 'rebuilt from the tar'
    })
    if (isMended) this.#sound.add(diffId)
  }

  /** Compares an artifact with a new one. One that cannot be read is a problem of its own, and does not end the check. */
  async #findMismatch(wanted: WantedArtifact, it: string, of: string): Promise<string | undefined> {
    try {
      const isCorrect = await this.#parts.layers.artifacts.isCorrect(wanted, this.#options.signal)
      return isCorrect ? undefined : `${it} does not match ${of}`
    } catch (error) {
      return `${it} cannot be read (${this.#faultOf(error)})`
    }
  }

  /** Returns what is wrong with a file. @throws the error itself if it says something else: the check was canceled, or cannot go on */
  #faultOf(error: unknown): string {
    throwIfAborted(this.#options.signal, 'check the store')
    const fault = faultOfFile(error)
    if (fault === undefined) throw error
    return fault
  }

  async #checkPartial(source: LazySource): Promise<void> {
    const { layers, refetchLayer } = this.#parts
    const { signal, onCheck } = this.#options
    const { diffId } = source
    const what = `partial layer ${diffId}`
    onCheck?.(what)
    const { damage, hashedBytes } = await layers.checkPartial(source, signal)
    this.#tarBytes += hashedBytes
    if (damage === undefined) return
    const { problem, repair } = damage
    const fetch = async () => `fetched from ${await refetchLayer(diffId, signal)}`
    await this.#report(what, problem, repair === 'refetch' ? fetch : repair, this.#adviseUsers(diffId))
  }

  /** A mount keeps the files that it was created from. */
  #adviseUsers(diffId: DiffId): string | undefined {
    const users = this.#parts.metadata.containers.usersOfLayer(diffId)
    if (users.length === 0) return undefined
    return `existing containers still see the damaged files: ${users.join(', ')}`
  }

  async #checkImage(image: ImageRecord): Promise<void> {
    const { blobs, metadata, refetchDocument, refetchLayer } = this.#parts
    const { signal } = this.#options
    const what = `image ${image.digest}`
    for (const [kind, digest] of [
      ['manifest', image.digest],
      ['config', image.configDigest],
    ] as const) {
      const problem = blobs.findProblem(digest, kind)
      if (problem === undefined) continue
      await this.#report(
        what,
        problem,
        async () => `refetched from ${await refetchDocument(image, digest, signal)}`,
      )
    }
    for (const diffId of new Set(image.layers.map((layer) => layer.diffId))) {
      if (metadata.layers.find(diffId) !== undefined) continue
      await this.#report(
        what,
        `its layer ${diffId} is not in the store`,
        async () => `fetched from ${await refetchLayer(diffId, signal)}`,
      )
    }
  }

  async #checkArtifact(
    owner: Digest,
    kind: ArtifactKind,
    stack: readonly DiffId[] | undefined,
  ): Promise<void> {
    const { layers } = this.#parts
    if (kind === 'tar' || kind === 'meta') return
    const what = `${kind} of ${owner}`
    if (!layers.artifacts.isThere(owner, kind)) {
      const problem = existsSync(layers.artifacts.path(owner, kind)) ? 'of another kind' : 'missing'
      await this.#report(what, `its file is ${problem}`, async () => {
        await layers.artifacts.forget(owner, kind)
        return 'record removed; it is rebuilt when needed'
      })
      return
    }
    if (kind !== 'merged') return
    // A merged image of damaged layers cannot be verified.
    if (stack === undefined || !stack.every((diffId) => this.#sound.has(diffId))) return
    this.#options.onCheck?.(what)
    this.#mergedImages += 1
    const wanted = { owner, kind, layers: stack }
    const mismatch = await this.#findMismatch(wanted, 'it', 'its layers')
    if (mismatch === undefined) return
    await this.#report(what, mismatch, async () => {
      await layers.artifacts.rebuild(wanted, this.#options.signal)
      return 'rebuilt from the layers'
    })
  }

  /** Returns the layers of each stack that an image or a root filesystem has. */
  #findStacks(): Map<Digest | undefined, readonly DiffId[]> {
    const { images, containers } = this.#parts.metadata
    return new Map([
      ...containers.rootfses().map(({ chainId, layers }) => [chainId, layers] as const),
      ...images.list().map(({ chainId, layers }) => [chainId, layers.map(({ diffId }) => diffId)] as const),
    ])
  }

  /** Folders without a row. If a process is creating one, its lock is held, and the row follows. */
  async #checkFolders(): Promise<void> {
    const { paths, metadata } = this.#parts
    for (const [kind, folder, pathOf] of [
      ['layer', paths.layers, layerPath],
      ['stack', paths.images, stackPath],
    ] as const) {
      for (const name of readdirSync(folder).filter(isDigest)) {
        const isKnown = () =>
          kind === 'layer'
            ? metadata.layers.find(parseDiffId(name)) !== undefined
            : STACK_KINDS.some((each) => metadata.layers.findArtifact(name, each) !== undefined)
        if (isKnown()) continue
        using locks = new DisposableStack()
        const isFree = (kind === 'layer' ? ['layer'] : STACK_KINDS).every(
          (each) => locks.use(FileLock.tryAcquire(lockPath(paths, each, name))) !== undefined,
        )
        if (!isFree || isKnown()) continue
        await this.#report(`${kind} ${name}`, 'its directory has no database row', async () => {
          await discard(paths, pathOf(paths, name))
          return 'removed'
        })
      }
    }
  }

  async #checkRetained(): Promise<void> {
    const { layers, retained } = this.#parts
    for (const blob of retained.list()) {
      const what = `retained blob ${blob.digest}`
      this.#options.onCheck?.(what)
      const problem = await layers.trees
        .hasDigest(blob.path, blob.digest, this.#options.signal)
        .then((isSound) => (isSound ? undefined : 'it has another digest'))
        .catch((error: unknown) => `it cannot be read (${this.#faultOf(error)})`)
      if (problem === undefined) continue
      await this.#report(what, problem, async () => {
        await retained.remove(blob)
        return 'removed; the layer itself does not depend on it'
      })
    }
  }

  /** A root filesystem that a process is creating or removing is in order. */
  #checkRootfs(listed: RootfsRecord): void {
    const { isBusy, metadata } = this.#parts
    const { containerId, uuid } = listed
    const isInOrder = (each: RootfsRecord) => each.state === 'ready' && this.#isStanding(each)
    if (isInOrder(listed) || isBusy(containerId)) return
    // The process may have finished meanwhile.
    const rootfs = metadata.containers.rootfses(containerId).find((each) => each.uuid === uuid)
    if (rootfs === undefined || isInOrder(rootfs)) return
    this.#problems.push({
      what: `root filesystem ${rootfs.rootfsPath}`,
      problem: rootfs.state === 'ready' ? 'it is not mounted' : `it is incomplete (${rootfs.state})`,
      repaired: undefined,
      advice: 'loam recover',
    })
  }

  /** One that the system cannot say anything of is not. */
  #isStanding(rootfs: RootfsRecord): boolean {
    try {
      return this.#parts.isStanding(rootfs)
    } catch (error) {
      this.#faultOf(error)
      return false
    }
  }
}
