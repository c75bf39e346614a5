/*
 * The Appc store that a Mesos agent left: <appc_store_dir>/images/sha512-<hex>/{manifest,rootfs/}. It is read and never changed.
 */
import { lstatSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { isErrno, isLoamError, LoamError, toLoamError } from '../../errors/index.ts'
import {
  type AppcImageId,
  type AppcManifest,
  type AppcName,
  isAppcImageId,
  checkDocumentSize,
  readAppcManifest,
  suitsAppcName,
} from '../../image/index.ts'
import { readInput } from '../../linux/index.ts'

/** An image as Mesos keeps it. */
export interface MesosAppcImage {
  readonly id: AppcImageId
  readonly manifest: AppcManifest
  readonly manifestText: string
  /** Folder with its files. */
  readonly rootfs: string
}

/** Lists the images of a store, and the entries that cannot be read, with the reasons. */
export function listMesosAppcImages(
  storeDir: string,
  maxBytes: number,
): {
  readonly images: readonly MesosAppcImage[]
  readonly unreadable: readonly { readonly path: string; readonly reason: string }[]
} {
  const images: MesosAppcImage[] = []
  const unreadable: { path: string; reason: string }[] = []
  const folder = join(storeDir, 'images')
  for (const name of readNames(folder)) {
    try {
      images.push(readImage(folder, name, maxBytes))
    } catch (error) {
      const reason = isLoamError(error) ? error.message : toLoamError(error, 'read').message
      unreadable.push({ path: join(folder, name), reason })
    }
  }
  return { images, unreadable }
}

/** Finds the images of a list that a request may refer to: the one with its id, or all that match its labels. */
export function findMatching(images: readonly MesosAppcImage[], wanted: AppcName): MesosAppcImage[] {
  return images.filter(({ id, manifest }) =>
    wanted.id === undefined ? suitsAppcName(wanted, manifest) : id === wanted.id,
  )
}

function readNames(folder: string): string[] {
  try {
    return readdirSync(folder).toSorted()
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ENOTDIR')) return []
    throw toLoamError(error, `read ${folder}`)
  }
}

function readImage(folder: string, id: string, maxBytes: number): MesosAppcImage {
  const path = join(folder, id)
  const invalid = (why: string) => new LoamError('SOURCE_INVALID', `read ${path}: ${why}`)
  if (!isAppcImageId(id)) throw invalid('its name is not an image ID')
  const rootfs = join(path, 'rootfs')
  if (!lstatSync(path).isDirectory() || !lstatSync(rootfs).isDirectory())
    throw invalid('its rootfs is not a directory')
  const manifestPath = join(path, 'manifest')
  const stats = lstatSync(manifestPath)
  if (!stats.isFile()) throw invalid('its manifest is not a file')
  checkDocumentSize(`read ${manifestPath}`, stats.size, { kind: 'manifest', maxBytes })
  const manifestText = readInput(manifestPath, maxBytes).toString('utf8')
  const { manifest } = readAppcManifest(Buffer.from(manifestText), manifestPath)
  return { id, manifest, manifestText, rootfs }
}
