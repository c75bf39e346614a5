import { statfsSync } from 'node:fs'
import {
  type ContainerInfo,
  type CredentialSource,
  firstCredentials,
  isLoamError,
  type Loam,
  LoamError,
  type MountedVolume,
  parseReference,
  type RootfsInfo,
} from 'loamfs'
import {
  configuredCredentials,
  containerIdsOf,
  lockInStore,
  measureVolume,
  takesPodTokens,
  toLoamError,
  writablePaths,
} from 'loamfs/internal'
import type { Log } from '../log.ts'
import { Operation } from './operation.ts'
import {
  clearTarget,
  createTarget,
  isTargetThere,
  removeTarget,
  resolveTarget,
  type Target,
} from './target.ts'
import { digestOf, invalid, shortDigest, type VolumeContent, type VolumeRequest } from './volume-request.ts'

/** All containers of volumes have IDs that begin so: `csi-TARGET-VOLUME-ARGUMENTS`, each a digest. So the store knows how a volume was published. */
const PREFIX = 'csi'

/** What is used and free of one resource. */
export interface Usage {
  readonly total: bigint
  readonly available: bigint
  readonly used: bigint
}

/** A volume that is not published yet. */
interface WantedVolume extends VolumeContent {
  /** Id of its container. */
  readonly id: string
  readonly credentials: CredentialSource | undefined
}

/** The usage of a volume. */
export interface VolumeStats {
  readonly bytes: Usage
  readonly inodes: Usage
}

/**
 * The volumes that are published on this node: containers of the store whose only root filesystem is mounted at a target. They outlive the daemon. All
 * calls may be made at the same time, also to a daemon that hands over and to the one that takes over: whoever works at a target has its lock.
 */
export class CsiVolumes implements AsyncDisposable {
  readonly #loam: Loam
  readonly #log: Log
  /** The operation at each target. */
  readonly #running = new Map<string, Operation>()
  /** The containers by the digests of their targets, as far as they are known. */
  readonly #known = new Map<string, string>()
  #isListed = false
  #isEnding = false

  constructor(loam: Loam, log: Log) {
    this.#loam = loam
    this.#log = log
  }

  /**
   * Mounts an image at a target, which is created. The same request again is not an error, and joins one in progress. When `signal` fires the
   * work goes on, for the next call.
   * @throws VOLUME_EXISTS for another volume or another mode at the target, VOLUME_BUSY, and the errors of pulling and mounting
   */
  async publish(request: VolumeRequest, target: Target, signal: AbortSignal): Promise<void> {
    const id = idOf(request, target)
    const running = this.#at(target)
    if (running !== undefined && running.id !== id) throw busy(target)
    const operation =
      running ?? this.#start(target, id, async (canceled) => this.#publish(request, target, canceled))
    await operation.join(signal)
  }

  async #publish(request: VolumeRequest, target: Target, signal: AbortSignal): Promise<void> {
    const id = idOf(request, target)
    // Without the directory there is no volume of a daemon that has handed over to this one.
    const isThorough = isTargetThere(target)
    const found = (await this.#loam.containers.find(id)) ?? (await this.#find(target, isThorough))
    if (found !== undefined && found.id !== id) {
      throw new LoamError(
        'VOLUME_EXISTS',
        `publish ${request.volumeId} at ${target.absolute}: another volume is there, or this one in another mode`,
      )
    }
    if (found !== undefined && (await this.#isInPlace(found, target))) return
    createTarget(target)
    try {
      const credentials = await this.#credentialsOf(request)
      await clearTarget(target)
      await this.#provision({ ...request, id, credentials }, target, signal)
    } catch (error) {
      throw await this.#removeAfter(error, target)
    }
    this.#known.set(keyOf(target), id)
  }

  /**
   * Removes the target of a volume that failed, and returns the error to report. While something is left, the error is one after which the orchestrator
   * publishes or unpublishes again: after any other one the kubelet takes it that nothing is there.
   */
  async #removeAfter(failure: unknown, target: Target): Promise<unknown> {
    try {
      await removeTarget(target)
      return failure
    } catch (error) {
      const why = toLoamError(failure, 'publish a volume')
      const left = toLoamError(error, `remove ${target.absolute}`).message
      return new LoamError('VOLUME_BUSY', `${why.message}; the target is not removed yet: ${left}`, {
        cause: failure,
        hint: why.hint,
      })
    }
  }

  /**
   * Returns whether a volume is mounted, also below mounts of its containers. One that is not any more is mounted again with its changes, and one that is
   * removed in part is removed. @throws VOLUME_BUSY
   */
  async #isInPlace(found: ContainerInfo, target: Target): Promise<boolean> {
    const rootfs = found.rootfses[0]
    if (rootfs?.isStanding === true) return true
    if (rootfs?.state !== 'destroying' && (await this.#isMountedAgain(found.id, target))) return true
    try {
      await this.#destroy(found.id, target)
    } catch (error) {
      const { message, hint } = toLoamError(error, 'destroy')
      const left = `publish at ${target.absolute}: what is left of a volume is not removed yet`
      throw new LoamError('VOLUME_BUSY', `${left}: ${message}`, { cause: error, hint })
    }
    return false
  }

  /** @throws VOLUME_BUSY */
  async #isMountedAgain(id: string, target: Target): Promise<boolean> {
    const { containers } = this.#loam
    createTarget(target)
    await containers.recover()
    const rootfs = (await containers.find(id))?.rootfses[0]
    if (rootfs?.isStanding === true) return true
    // Recovery removes it unless another process is at it.
    if (rootfs?.state === 'provisioning') throw busy(target)
    // What was written to it must not be lost without a word.
    if (rootfs?.state === 'ready' && !rootfs.isReadOnly) {
      throw new LoamError(
        'VOLUME_BUSY',
        `publish at ${target.absolute}: the volume cannot be mounted again`,
        {
          hint: '`loam recover` says why. To give up what was written to it, delete the pod.',
        },
      )
    }
    return false
  }

  /** Also removes what is mounted over it: containers may mount at its root, and such mounts would hide its own. */
  async #destroy(id: string, target: Target): Promise<void> {
    await clearTarget(target)
    await this.#loam.containers.destroy(id)
  }

  async #provision(request: WantedVolume, target: Target, signal: AbortSignal): Promise<void> {
    const { id, credentials, image, platform, subPath, isReadOnly, sizeBytes, pullPolicy } = request
    if (pullPolicy === 'Never') await this.#requireStored(request)
    const volume: MountedVolume = {
      // Not a text: that may also name a file, or a digest.
      image: { type: 'docker', docker: { name: image } },
      target: target.absolute,
      isReadOnly,
      sizeBytes,
      subPath,
    }
    try {
      await this.#loam.containers.provisionVolumes([volume], {
        id,
        platform,
        refresh: pullPolicy === 'Always',
        credentials,
        signal,
      })
    } catch (error) {
      const failure = isLoamError(error, 'VOLUMES_FAILED') ? error.cause : error
      throw refusalOf(failure, request)
    }
  }

  /** Returns undefined for those of the configuration alone. @throws CREDENTIALS_INVALID */
  async #credentialsOf({ image, parseRights }: VolumeRequest): Promise<CredentialSource | undefined> {
    const { credentials, podTokens } = parseRights()
    // Credentials of its own would keep the image from being pulled lazily.
    const takesTokens = podTokens !== undefined && (await takesPodTokens(this.#loam, parseReference(image)))
    if (credentials === undefined && !takesTokens) return undefined
    const configured = configuredCredentials(this.#loam, takesTokens ? podTokens : undefined)
    return credentials === undefined ? configured : firstCredentials([credentials, configured])
  }

  /** @throws IMAGE_NOT_FOUND */
  async #requireStored({ image, platform }: VolumeContent): Promise<void> {
    try {
      await this.#loam.images.inspect(`docker://${image}`, { platform })
    } catch (error) {
      if (!isLoamError(error, 'IMAGE_NOT_FOUND')) throw error
      throw new LoamError(
        'IMAGE_NOT_FOUND',
        `use ${image}: it is not in the store, and pullPolicy is Never`,
        {
          hint: `Pull it on this node: loam pull ${image}`,
        },
      )
    }
  }

  /** Unmounts a volume, and removes the target. One that is not there is not an error. @throws VOLUME_BUSY, DESTROY_FAILED, SYSTEM */
  async unpublish(volumeId: string, path: string): Promise<void> {
    const target = findTarget(path)
    const volume = shortDigest(volumeId)
    const id = `${keyOf(target)}-${volume}-`
    for (let running = this.#at(target); running !== undefined; running = this.#at(target)) {
      if (!running.id.startsWith(id)) throw busy(target)
      await running.end()
    }
    await this.#start(target, id, async () => this.#unpublish(id, target)).join()
  }

  #at({ absolute }: Target): Operation | undefined {
    return this.#running.get(absolute)
  }

  async #unpublish(id: string, target: Target): Promise<void> {
    const found = await this.#find(target, true)
    // That of another volume stays.
    if (found !== undefined && !found.id.startsWith(id)) return
    if (found !== undefined) await this.#destroy(found.id, target)
    this.#known.delete(keyOf(target))
    await removeTarget(target)
  }

  /** Measures a volume. @throws VOLUME_NOT_FOUND; CANCELED when `signal` fires */
  async stats(volumeId: string, target: Target, signal: AbortSignal): Promise<VolumeStats> {
    const found = await this.#find(target, true)
    const rootfs = found?.rootfses[0]
    const isOwn = found?.id.startsWith(`${keyOf(target)}-${shortDigest(volumeId)}-`) === true
    if (!isOwn || rootfs?.isStanding !== true) {
      throw new LoamError(
        'VOLUME_NOT_FOUND',
        `measure ${volumeId}: it is not published at ${target.absolute}`,
      )
    }
    return rootfs.isReadOnly ? this.#imageStats(rootfs, signal) : this.#writableStats(rootfs, signal)
  }

  /** An image is full. */
  async #imageStats({ backend, rootfsPath }: RootfsInfo, signal: AbortSignal): Promise<VolumeStats> {
    const full = (used: bigint): Usage => ({ total: used, available: 0n, used })
    // Other backends show directories of the store, whose file system has more than the image.
    if (backend !== 'erofs') {
      const { bytes, inodes } = await measureVolume(this.#loam, rootfsPath, signal)
      return { bytes: full(BigInt(bytes)), inodes: full(BigInt(inodes)) }
    }
    const { blocks, bsize, files, ffree } = statfsSync(rootfsPath, { bigint: true })
    return { bytes: full(blocks * bsize), inodes: full(files - ffree) }
  }

  async #writableStats(rootfs: RootfsInfo, signal: AbortSignal): Promise<VolumeStats> {
    const own = rootfs.backend === 'copy' ? rootfs.rootfsPath : writablePaths(rootfs).upper
    const measured = await measureVolume(this.#loam, own, signal)
    const used = BigInt(measured.bytes)
    const { blocks, bavail, bsize, files, ffree } = statfsSync(own, { bigint: true })
    const limit = rootfs.sizeBytes === undefined ? blocks * bsize : BigInt(rootfs.sizeBytes)
    const left = limit > used ? limit - used : 0n
    const free = bavail * bsize
    return {
      bytes: { total: limit, available: left < free ? left : free, used },
      inodes: { total: files, available: ffree, used: BigInt(measured.inodes) },
    }
  }

  /** Finds the volume at a target. `isThorough`: also one that another daemon has published since this one began. */
  async #find(target: Target, isThorough: boolean): Promise<ContainerInfo | undefined> {
    const key = keyOf(target)
    const known = this.#known.get(key)
    const found = known === undefined ? undefined : await this.#loam.containers.find(known)
    if (found !== undefined) return found
    this.#known.delete(key)
    if (!isThorough && this.#isListed) return undefined
    this.#isListed = true
    for (const id of containerIdsOf(this.#loam)) {
      const end = id.startsWith(`${PREFIX}-`) ? id.indexOf('-', PREFIX.length + 1) : -1
      if (end > 0) this.#known.set(id.slice(0, end), id)
    }
    const listed = this.#known.get(key)
    return listed === undefined ? undefined : this.#loam.containers.find(listed)
  }

  #start(target: Target, id: string, act: (canceled: AbortSignal) => Promise<void>): Operation {
    const locked = async (signal: AbortSignal) => {
      using _lock = await lockInStore(this.#loam, { kind: 'volume', name: keyOf(target), signal })
      await act(signal)
    }
    const operation = new Operation(id, locked, (error) => {
      this.#running.delete(target.absolute)
      // Its calls may all have ended before it did.
      if (error !== undefined)
        this.#log.info('volume', { target: target.absolute, error: toLoamError(error, 'volume').message })
    })
    this.#running.set(target.absolute, operation)
    if (this.#isEnding) operation.endWithCalls()
    return operation
  }

  /** From now on operations are canceled when no call waits for them: the next one may come to another daemon, which would wait for their locks. */
  endWithCalls(): void {
    this.#isEnding = true
    for (const operation of this.#running.values()) operation.endWithCalls()
  }

  /** Ends the operations in progress. Volumes stay. */
  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([...this.#running.values()].map(async (operation) => operation.end()))
  }
}

/** Of a path whose parent is gone there may be a container left. */
function findTarget(path: string): Target {
  try {
    return resolveTarget(path, 'target_path')
  } catch (error) {
    if (isLoamError(error, 'PATH_NOT_FOUND')) return { root: '/', path, absolute: path }
    throw error
  }
}

function keyOf({ absolute }: Target): string {
  return `${PREFIX}-${shortDigest(absolute)}`
}

function idOf(request: VolumeRequest, target: Target): string {
  return `${keyOf(target)}-${shortDigest(request.volumeId)}-${digestOf(request)}`
}

/** To a client of CSI, UNIMPLEMENTED would be the call itself. */
function refusalOf(failure: unknown, { sizeBytes }: VolumeContent): unknown {
  if (!(failure instanceof LoamError) || failure.kind !== 'unimplemented') return failure
  const { code, message, hint } = failure
  if (code === 'MEDIA_TYPE_UNSUPPORTED') return invalid('image', message)
  if (code === 'UNSUPPORTED_SYSTEM' && sizeBytes !== undefined) return invalid('size', message, { hint })
  return new LoamError('ROOTFS_UNMOUNTED', `publish a volume: ${message}`, { hint, cause: failure })
}

function busy({ absolute }: Target): LoamError {
  return new LoamError('VOLUME_BUSY', `use ${absolute}: another call publishes or unpublishes a volume there`)
}
