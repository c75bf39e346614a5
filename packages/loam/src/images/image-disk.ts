import { readdirSync } from 'node:fs'
import { writablePaths } from '../backends/index.ts'
import { LoamError } from '../errors/index.ts'
import type { Disk } from '../exports/index.ts'
import type { ChainId, DiffId, Digest } from '../image/index.ts'
import type { MergedImage } from '../layers/index.ts'
import type { RootfsInfo } from '../provisioner/index.ts'
import type { ImageOptions } from './requests.ts'
import type { ImageServices } from './services.ts'
import { typeOf } from './source-opener.ts'

/** A mount that the caller makes. Options are those of mount(8). */
export interface DiskMount {
  /** Type of the file system. */
  readonly type: 'erofs'
  /** Path of the merged image. */
  readonly source: string
  /** `ro`, and a `device=` for each tar, in their order. */
  readonly options: readonly string[]
}

/** An image as a disk that is made of files of the store, or as a mount of the same files. */
export interface ImageDisk extends Disk {
  /** Digest of the image's manifest. */
  readonly digest: Digest
  /** How Linux mounts the files themselves (6.12; earlier through loop devices), or block devices that have them. */
  readonly mount: DiskMount
}

type DiskServices = Pick<
  ImageServices,
  'configuration' | 'metadata' | 'layers' | 'stores' | 'sources' | 'provisioner'
>

interface Subject {
  readonly name: string
  readonly digest: Digest
  readonly chainId: ChainId | undefined
  readonly layers: readonly DiffId[]
}

/**
 * Describes an image, or the image of a container, as one disk without a copy. Layers are complete when it returns. The files stay while the store has the
 * image; a container keeps them also from eviction. @throws the errors of `pull`, USAGE for an image without layers or a container with several root
 * filesystems, LAYER_UNSUPPORTED for more than 2 TiB
 */
export async function describeDisk(
  services: DiskServices,
  text: string,
  options: ImageOptions,
): Promise<ImageDisk> {
  const { provisioner, sources, stores, configuration } = services
  const { signal, onEvent } = options
  const container = provisioner.find(text)
  if (container !== undefined) {
    using _lease = await provisioner.lease(container.id, signal)
    const rootfs = rootfsOf(text, provisioner.find(container.id)?.rootfses ?? [])
    using _leases = await services.layers.leaseStored(rootfs.layers, signal)
    if (hasChanges(rootfs))
      onEvent?.({
        kind: 'note',
        text: `the disk has the image of ${text}, without what the container has changed; \`loam export\` writes that, too`,
      })
    const { imageDigest: digest, chainId, layers } = rootfs
    return await diskOf(services, { name: text, digest, chainId, layers }, signal)
  }
  const { name } = sources.find(text, { ...options, mayBeGone: true })
  return sources.with(name, options, async (source) => {
    using stored = await stores[typeOf(name)].get(source, { ...options, cached: source.isRemote, sync: true })
    const layers = stored.layers.map(({ diffId }) => diffId)
    await services.layers.complete(layers, signal)
    if (configuration.values.disk_budget !== undefined)
      onEvent?.({
        kind: 'note',
        text: `disk_budget may evict data of the disk before it is opened: \`loam provision --id ID ${text}\`, then \`loam disks ID\`, keeps it`,
        isAdvice: true,
      })
    return await diskOf(
      services,
      { name: text, digest: stored.record.digest, chainId: stored.chainId, layers },
      signal,
    )
  })
}

function rootfsOf(id: string, rootfses: readonly RootfsInfo[]): RootfsInfo {
  const [rootfs, other] = rootfses.filter(({ volumeTarget }) => volumeTarget === undefined)
  if (rootfs !== undefined && other === undefined) return rootfs
  throw new LoamError('USAGE', `describe the disk of ${id}: it does not have exactly one root filesystem`)
}

/** What is not known counts as no change: the note is only a help. */
function hasChanges(rootfs: RootfsInfo): boolean {
  try {
    return readdirSync(writablePaths(rootfs).upper).length > 0
  } catch {
    return false
  }
}

async function diskOf(
  { layers: store }: DiskServices,
  { name, digest, chainId, layers }: Subject,
  signal: AbortSignal | undefined,
): Promise<ImageDisk> {
  if (chainId === undefined) {
    throw new LoamError('USAGE', `describe the disk of ${name}: its image has no layers`, {
      hint: '`loam export --format erofs` writes an empty disk.',
    })
  }
  const merged = await store.artifacts.mergedImage(chainId, layers, signal)
  const { path, sizeBytes, devices } = merged
  if (devices.some(({ position }) => position === 0)) throw tooLarge(name, merged)
  return {
    digest,
    chainId,
    sizeBytes: devices.reduce((sum, device) => sum + device.sizeBytes, sizeBytes),
    parts: [{ diffId: undefined, path, sizeBytes, position: 0 }, ...devices],
    mount: {
      type: 'erofs',
      source: path,
      options: ['ro', ...devices.map((device) => `device=${device.path}`)],
    },
  }
}

function tooLarge(name: string, { devices }: MergedImage): LoamError {
  const totalBytes = devices.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0)
  return new LoamError(
    'LAYER_UNSUPPORTED',
    `describe the disk of ${name}: its layers have ${totalBytes} bytes, and EROFS addresses at most 2 TiB in one disk`,
    { hint: '`loam mount` and `loam provision` show it all the same.' },
  )
}
