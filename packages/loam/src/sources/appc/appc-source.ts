import { constants, copyFileSync } from 'node:fs'
import { LoamError } from '../../errors/index.ts'
import {
  type AppcName,
  appcPlatform,
  formatAppcName,
  makeAppcName,
  parseAppcManifest,
  type Platform,
} from '../../image/index.ts'
import { hostPlatform } from '../../linux/index.ts'
import { type FolderPacker, folderLayer } from '../folder-layer.ts'
import { aciName } from '../image-name.ts'
import type { ImageSource } from '../image-source.ts'
import { preparedSource } from '../prepared.ts'
import { fetchFile } from '../remote-file.ts'
import { readAci, type ReadAciOptions } from './aci-file.ts'
import { type AppcImage, checkSuits, prepareAppc } from './appc-image.ts'
import { discoverAci, type DiscoveryOptions, type FetchedAci } from './discovery.ts'
import { findMesosAppcImage, type MesosAppcImage } from './mesos-cache.ts'
import { checkSignature } from './signature.ts'

export interface AppcSourceOptions extends Omit<DiscoveryOptions, 'withSignature'> {
  readonly platform: Platform
  readonly limits: ReadAciOptions['limits']
  /** File of trusted keys; undefined to take what is not signed. */
  readonly keyring: string | undefined
  /** Where programs are looked up. */
  readonly path: string
  /** The store of a Mesos agent, which is looked at before any other place. */
  readonly mesosStoreDir: string | undefined
  readonly folders: FolderPacker
  /** Finds an image that a store has already. */
  readonly findKnown: (name: AppcName) => AppcImage | undefined
}

/** Makes a source of an image by name and labels. */
export function appcSource(wanted: AppcName, options: AppcSourceOptions): ImageSource {
  return preparedSource({
    name: formatAppcName(wanted),
    isRemote: true,
    prepare: async (signal) => {
      const root = await loadImage(wanted, options, signal)
      checkSuits(wanted, root)
      return prepareAppc(root, graphOptions(options, signal))
    },
  })
}

/** Makes a source of an ACI: a path or an address. */
export function aciSource(address: string, options: AppcSourceOptions): ImageSource {
  return preparedSource({
    name: aciName(address),
    isRemote: false,
    prepare: async (signal) => {
      const fetched = {
        place: { aci: address, signature: `${address}.asc` },
        path: await fetchFile(address, options, signal),
        signaturePath:
          options.keyring === undefined ? undefined : await fetchFile(`${address}.asc`, options, signal),
      }
      return prepareAppc(await readFetched(fetched, options, signal), graphOptions(options, signal))
    },
  })
}

function graphOptions(options: AppcSourceOptions, signal: AbortSignal | undefined) {
  const load = async (name: AppcName, loadSignal: AbortSignal | undefined) =>
    options.findKnown(name) ?? loadImage(name, options, loadSignal)
  return { platform: options.platform, signal, load }
}

async function loadImage(
  wanted: AppcName,
  options: AppcSourceOptions,
  signal: AbortSignal | undefined,
): Promise<AppcImage> {
  const { mesosStoreDir, keyring } = options
  // What Mesos unpacked has no signature any more.
  const left =
    mesosStoreDir === undefined || keyring !== undefined
      ? undefined
      : findMesosAppcImage(mesosStoreDir, wanted)
  if (left !== undefined) return readMesosImage(left, options.folders, signal)
  const withSignature = options.keyring !== undefined
  return readFetched(await discoverAci(wanted, { ...options, withSignature }, signal), options, signal)
}

/** Makes an image of what Mesos unpacked. Its id is what the folder is called: what it was made of is gone. */
async function readMesosImage(
  { id, manifestText, rootfs }: MesosAppcImage,
  folders: FolderPacker,
  signal: AbortSignal | undefined,
): Promise<AppcImage> {
  const { diffId, ...layer } = await folderLayer(rootfs, folders, { as: 'layer', signal })
  const parsed = parseAppcManifest(Buffer.from(manifestText), `manifest of ${id}`)
  return { id, diffId, manifest: manifestText, parsed, layer }
}

/** Makes a source of an image of a Mesos agent's store; those that it stands on are looked for there. */
export function mesosAppcSource(storeDir: string, image: MesosAppcImage, folders: FolderPacker): ImageSource {
  const platform = { ...hostPlatform(), ...platformOf(image) }
  const { name, labels } = image.manifest
  return preparedSource({
    name: formatAppcName(makeAppcName({ name, labels, id: image.id }, platform)),
    isRemote: false,
    prepare: async (signal) => {
      const load = async (wanted: AppcName) => {
        const found = findMesosAppcImage(storeDir, wanted)
        if (found !== undefined) return readMesosImage(found, folders, signal)
        throw new LoamError(
          'IMAGE_NOT_FOUND',
          `find ${formatAppcName(wanted)} in ${storeDir}: ${name} stands on it, and it is not there`,
        )
      }
      return prepareAppc(await readMesosImage(image, folders, signal), { platform, load, signal })
    },
  })
}

function platformOf({ manifest }: MesosAppcImage): Partial<Platform> {
  const { os, architecture, variant } = appcPlatform(manifest.labels)
  return os === '' || architecture === '' ? {} : { os, architecture, variant }
}

async function readFetched(
  { place, path, signaturePath }: FetchedAci,
  options: AppcSourceOptions,
  signal: AbortSignal | undefined,
): Promise<AppcImage> {
  const { keyring, newPath, limits } = options
  let own = path
  if (keyring !== undefined) {
    if (signaturePath === undefined)
      throw new LoamError('SIGNATURE_INVALID', `verify ${place.aci}: it is not signed`)
    // A copy, so that nobody can put another file in its place between the check and the reading.
    own = newPath()
    copyFileSync(path, own, constants.COPYFILE_FICLONE)
    const file = { path: own, signaturePath, what: place.aci }
    await checkSignature(file, { keyring, path: options.path, newPath, signal })
  }
  const { id, diffId, manifestText, manifest, layer } = await readAci(own, {
    what: place.aci,
    newPath,
    limits,
    signal,
  })
  return { id, diffId, manifest: manifestText, parsed: manifest, layer }
}
