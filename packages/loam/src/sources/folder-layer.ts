import { statSync } from 'node:fs'
import { type DiffId, MEDIA_TYPES } from '../image/index.ts'
import { type IdMapping, requireOwnRights } from '../linux/index.ts'
import { streamFile } from './blob-file.ts'
import type { ConvertedLayer } from './converted.ts'

/** How to turn a folder into a layer. */
export interface FolderLayerOptions {
  readonly as: 'layer' | 'overlay' | 'rootfs'
  /** The user namespace of the container whose files they are. Undefined: that of this process. */
  readonly idMapping?: IdMapping | undefined
  /** Later times of files are this one, in seconds since 1970. Undefined: they stay. */
  readonly latestSeconds?: number | undefined
  readonly signal: AbortSignal | undefined
}

/** Packs folders into layers. */
export interface FolderPacker {
  /** Writes an unpacked layer to a new file as a tar; `overlay` turns overlayfs's marks of removed files into whiteouts. */
  readonly pack: (folder: string, target: string, options: FolderLayerOptions) => Promise<void>
  readonly hash: (path: string, signal: AbortSignal | undefined) => Promise<DiffId>
  readonly newPath: () => string
}

/** Creates a layer from a folder. The folder is read once, so that the layer cannot change afterwards. */
export async function folderLayer(
  folder: string,
  packer: FolderPacker,
  options: FolderLayerOptions,
): Promise<ConvertedLayer & { readonly diffId: DiffId }> {
  requireOwnRights(folder)
  const path = packer.newPath()
  await packer.pack(folder, path, options)
  const diffId = await packer.hash(path, options.signal)
  const descriptor = { mediaType: MEDIA_TYPES.ociLayer, digest: diffId, sizeBytes: statSync(path).size }
  return { diffId, descriptor, open: ({ offset, signal }) => streamFile(path, signal, { start: offset }) }
}
