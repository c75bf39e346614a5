import { limitedFolder } from '../backends/index.ts'
import { join } from 'node:path'
import {
  LAZY_INDEX_NAME,
  layerPath,
  stackPath,
  type StorePaths,
  type ArtifactKind,
} from '../content/index.ts'
import type { DiffId, Digest } from '../image/index.ts'
import type { LayerStore } from '../layers/index.ts'
import { TimeSlice } from '../linux/index.ts'
import type { MetadataStore, RootfsRecord } from '../metadata/index.ts'

/** The disk usage of a layer, in bytes. */
export interface LayerUsage {
  /** The layer. */
  readonly diffId: DiffId
  /** The tar, its metadata image and its lazy index. */
  readonly bytes: number
  /** Size of the tar, if the layer is partial: `bytes` counts what is here. */
  readonly partialOfBytes: number | undefined
  /** Folders built from it for the overlay and bind backends. */
  readonly folderBytes: number
  /** Names of the images that have it, or their digests. */
  readonly images: readonly string[]
}

/** The disk usage of an image, in bytes. */
export interface ImageUsage {
  /** Digest of its manifest. */
  readonly digest: Digest
  /** Its names. */
  readonly names: readonly string[]
  /** All of its layers and artifacts. */
  readonly bytes: number
  /** Bytes that removing it would free: layers of no other image, and the artifacts of its stack. */
  readonly ownBytes: number
  /** Layers that it shares with other images. */
  readonly sharedBytes: number
  /** Ids of the containers that use it. */
  readonly containers: readonly string[]
}

/** The disk usage of a container's root filesystem without its layers, in bytes. */
export interface ContainerUsage {
  /** Id of the container. */
  readonly id: string
  /** Backend of the root filesystem. */
  readonly backend: string
  /** Name of its image. */
  readonly reference: string
  /** The data written to it; with `copy`, the whole root filesystem. */
  readonly bytes: number
}

/** The disk usage of a store. Sizes count blocks, as `du` does. */
export interface StoreUsage {
  /** Each image. */
  readonly images: readonly ImageUsage[]
  /** Each layer. */
  readonly layers: readonly LayerUsage[]
  /** Each root filesystem of each container. */
  readonly containers: readonly ContainerUsage[]
  /** Layers that no image and no container uses: `prune` removes them. */
  readonly unusedBytes: number
  /** Compressed blobs of layers that `blob_retention` keeps. */
  readonly retainedBytes: number
  /** Everything below the store's root. */
  readonly totalBytes: number
}

/** The services that a measurement needs. */
export interface UsageParts {
  readonly paths: StorePaths
  readonly metadata: MetadataStore
  readonly layers: LayerStore
  /** Measures the disk usage of a folder or file, in a thread where it is large. */
  readonly measure: (path: string) => Promise<{ readonly bytes: number }>
}

/** What a folder with a limit holds may not be in the file of its file system yet. */
async function bytesOfWritable(
  { scratchPath, sizeBytes }: RootfsRecord,
  bytesOf: (path: string) => Promise<number>,
): Promise<number> {
  const bytes = await bytesOf(scratchPath)
  return sizeBytes === undefined ? bytes : Math.max(bytes, await bytesOf(limitedFolder(scratchPath)))
}

/** Measures the disk usage of images, layers and containers. Linear in the files of folders and containers. */
export async function measureStore(parts: UsageParts): Promise<StoreUsage> {
  const { paths, metadata } = parts
  const slice = new TimeSlice()
  const bytesOf = async (path: string) => {
    // What is small is measured here.
    await slice.rest()
    return (await parts.measure(path)).bytes
  }
  const namesOfImage = Map.groupBy(metadata.images.listNames(), ({ imageDigest }) => imageDigest)
  await slice.rest()
  const images = metadata.images.list()
  await slice.rest()
  const rootfses = metadata.containers.rootfses()
  const usersOfImage = Map.groupBy(rootfses, ({ imageDigest }) => imageDigest)
  const usersOfLayer = new Map<DiffId, Digest[]>()
  for (const { digest, layers } of images) {
    for (const diffId of new Set(layers.map((layer) => layer.diffId))) {
      const users = usersOfLayer.get(diffId)
      if (users === undefined) usersOfLayer.set(diffId, [digest])
      else users.push(digest)
    }
  }
  const namesOf = (digest: Digest) => (namesOfImage.get(digest) ?? []).map(({ reference }) => reference)
  const layers: LayerUsage[] = []
  for (const { diffId, data, tarBytes } of metadata.layers.list()) {
    const pathOf = (kind: ArtifactKind) => parts.layers.artifacts.path(diffId, kind)
    const files = [pathOf('tar'), pathOf('meta'), join(layerPath(paths, diffId), LAZY_INDEX_NAME)]
    const sizes = await Promise.all(files.map(bytesOf))
    layers.push({
      diffId,
      bytes: sizes.reduce((sum, bytes) => sum + bytes, 0),
      partialOfBytes: data === 'partial' ? tarBytes : undefined,
      folderBytes: await bytesOf(pathOf('unpacked')),
      images: (usersOfLayer.get(diffId) ?? []).map((digest) => namesOf(digest)[0] ?? digest),
    })
  }
  const layerBytes = new Map(layers.map((layer) => [layer.diffId, layer.bytes + layer.folderBytes]))
  const imagesOfStack = Map.groupBy(images, ({ chainId }) => chainId)
  const imageUsages: ImageUsage[] = []
  for (const { digest, chainId, layers: own } of images) {
    const diffIds = [...new Set(own.map(({ diffId }) => diffId))]
    const sum = (some: readonly DiffId[]) =>
      some.reduce((total, diffId) => total + (layerBytes.get(diffId) ?? 0), 0)
    const sharedBytes = sum(diffIds.filter((diffId) => (usersOfLayer.get(diffId)?.length ?? 0) > 1))
    // Artifacts of a stack belong to all images of that stack, and are removed with the last one.
    const isOnlyOfStack = imagesOfStack.get(chainId)?.length === 1
    const stackBytes = chainId === undefined ? 0 : await bytesOf(stackPath(paths, chainId))
    const bytes = sum(diffIds) + stackBytes
    imageUsages.push({
      digest,
      names: namesOf(digest),
      bytes,
      sharedBytes: sharedBytes + (isOnlyOfStack ? 0 : stackBytes),
      ownBytes: bytes - sharedBytes - (isOnlyOfStack ? 0 : stackBytes),
      containers: [...new Set(usersOfImage.get(digest)?.map(({ containerId }) => containerId))],
    })
  }
  const containers: ContainerUsage[] = []
  for (const rootfs of rootfses) {
    // If something is mounted there, only the files of the scratch folder are the container's own.
    const ownBytes = rootfs.backend === 'copy' ? await bytesOf(rootfs.rootfsPath) : 0
    containers.push({
      id: rootfs.containerId,
      backend: rootfs.backend,
      reference: rootfs.reference,
      bytes: (await bytesOfWritable(rootfs, bytesOf)) + ownBytes,
    })
  }
  let unusedBytes = 0
  for (const { diffId, bytes, folderBytes } of layers) {
    await slice.rest()
    if (!metadata.layers.isUsed(diffId)) unusedBytes += bytes + folderBytes
  }
  return {
    images: imageUsages,
    layers,
    containers,
    unusedBytes,
    retainedBytes: await bytesOf(paths.retained),
    totalBytes: await bytesOf(paths.root),
  }
}
