import { constants } from 'node:fs'
import { copyFile } from 'node:fs/promises'
import { resolve } from 'node:path'
import { LoamError, toLoamError } from '../../errors/index.ts'
import {
  type AppcName,
  appcPlatform,
  compareAppcVersions,
  type DocumentLimits,
  formatAppcName,
  isAppcLatest,
  createAppcName,
  type Platform,
} from '../../image/index.ts'
import { hostPlatform } from '../../linux/index.ts'
import type { ImageLocation } from '../../policy/index.ts'
import { type FolderPacker, folderLayer } from '../folder-layer.ts'
import { aciName, askedBy, fileLocations } from '../image-name.ts'
import type { ImageSource } from '../image-source.ts'
import { convertedSource } from '../converted.ts'
import { fetchFile } from '../remote-file.ts'
import { readAci, type ReadAciOptions } from './aci-file.ts'
import { type AppcImage, checkMatches, convertAppc } from './appc-image.ts'
import { discoverAci, type DiscoveryOptions, type FetchedAci, fetchSignature } from './discovery.ts'
import { type LeftStore, openLeftStore } from './left-store.ts'
import type { MesosAppcImage } from './mesos-cache.ts'
import { checkSignature } from './signature.ts'

export interface AppcSourceOptions extends Omit<DiscoveryOptions, 'withSignature'> {
  readonly platform: Platform
  readonly limits: ReadAciOptions['limits']
  /** File of trusted keys; undefined accepts unsigned images. */
  readonly keyring: string | undefined
  /** Where to look up programs. */
  readonly path: string
  /** The store of a Mesos agent, which is searched before any other location. */
  readonly mesosStoreDir: string | undefined
  readonly folders: FolderPacker
  /** Finds the images in the store that a name may refer to; of any version if the name asks for the latest. */
  readonly findKnown: (name: AppcName) => readonly AppcImage[]
  /** Called with notes for the user about how an image was found. */
  readonly onNote: (text: string) => void
}

const CLAIMED_NOTE =
  "its ID is the name of the agent's directory and cannot be verified, because the archive was not kept"

/** Creates a source of an image by name and labels. */
export function appcSource(wanted: AppcName, options: AppcSourceOptions): ImageSource {
  return convertedSource({
    name: formatAppcName(wanted),
    asked: askedBy({ transport: 'appc', appc: wanted }),
    isRemote: true,
    // The location of that name has returned this image.
    aliasesGivenBy: 'location',
    convert: async (signal) => {
      const left = openLeft(options)
      const root = await loadImage(wanted, left, options, signal)
      checkMatches(wanted, root)
      const image = await convertAppc(root, graphOptions(left, options, signal))
      return root.isIdClaimed === true ? { ...image, pinNote: CLAIMED_NOTE } : image
    },
  })
}

/** Creates a source of an ACI: a path or an address. */
export function aciSource(address: string, options: AppcSourceOptions): ImageSource {
  const urls = { aci: address, signature: `${address}.asc` }
  return convertedSource({
    name: aciName(address),
    asked: { locations: fileLocations('aci', address), pin: undefined },
    isRemote: false,
    convert: async (signal) => {
      const path = await fetchFile(address, options, signal)
      const signaturePath =
        options.keyring === undefined ? undefined : await fetchSignature(urls, true, options, signal)
      const root = await readFetched({ urls, path, signaturePath }, options, signal)
      return convertAppc(root, graphOptions(openLeft(options), options, signal))
    },
  })
}

/** Opens an agent's store, whose unpacked images have no signatures. */
function openLeft({ mesosStoreDir, keyring, limits, onNote }: AppcSourceOptions): LeftStore {
  return openLeftStore(keyring === undefined ? mesosStoreDir : undefined, limits, onNote)
}

function graphOptions(left: LeftStore, options: AppcSourceOptions, signal: AbortSignal | undefined) {
  const load = async (name: AppcName, loadSignal: AbortSignal | undefined) => {
    const known = isAppcLatest(name) ? undefined : options.findKnown(name)[0]
    return known ?? loadImage(name, left, options, loadSignal)
  }
  return { platform: options.platform, signal, load }
}

async function loadImage(
  wanted: AppcName,
  left: LeftStore,
  options: AppcSourceOptions,
  signal: AbortSignal | undefined,
): Promise<AppcImage> {
  const found = left.find(wanted)
  if (found !== undefined) return readMesosImage(found, locationOfStore(options), options.folders, signal)
  try {
    const withSignature = options.keyring !== undefined
    return await readFetched(
      await discoverAci(wanted, { ...options, withSignature }, signal),
      options,
      signal,
    )
  } catch (error) {
    const failure = toLoamError(error, `find ${wanted.name}`)
    const highest =
      isAppcLatest(wanted) && isUnavailable(failure) ? findHighest(wanted, left, options) : undefined
    if (highest === undefined) throw withSkipped(failure, left)
    const version =
      highest.version === undefined ? 'an image without a version' : `version ${highest.version}`
    options.onNote(`${failure.message}: ${version}, the highest in the store, is used`)
    return highest.load(signal)
  }
}

/** Returns whether an image was not found, or its location could not be asked. */
function isUnavailable({ kind }: LoamError): boolean {
  return kind === 'not_found' || kind === 'unavailable'
}

/** Finds the highest version of an image in an agent's store and in Loam's own. */
function findHighest(wanted: AppcName, left: LeftStore, options: AppcSourceOptions) {
  const { findKnown, folders } = options
  const candidates = [
    ...left.findAll(wanted).map((image) => ({
      version: image.manifest.labels['version'],
      load: async (signal: AbortSignal | undefined) =>
        readMesosImage(image, locationOfStore(options), folders, signal),
    })),
    ...findKnown(wanted).map((image) => ({
      version: image.parsed.labels['version'],
      load: async () => image,
    })),
  ]
  return candidates.toSorted((a, b) => compareAppcVersions(a.version, b.version)).at(-1)
}

/** Adds the images that were skipped to the error of an image that was not found. */
function withSkipped(failure: LoamError, left: LeftStore): LoamError {
  const skipped = left.skipped().slice(0, 10)
  if (failure.kind !== 'not_found' || skipped.length === 0) return failure
  const { code, message, hint, details } = failure
  return new LoamError(code, `${message}; skipped ${skipped.join('; ')}`, { cause: failure, hint, details })
}

/** Reads an image from a folder that Mesos unpacked. Its id is the name of the folder: the original file is gone. */
async function readMesosImage(
  { id, manifest: parsed, manifestText, rootfs }: MesosAppcImage,
  from: readonly ImageLocation[],
  folders: FolderPacker,
  signal: AbortSignal | undefined,
): Promise<AppcImage> {
  const { diffId, ...layer } = await folderLayer(rootfs, folders, { as: 'layer', signal })
  return { id, isIdClaimed: true, diffId, manifest: manifestText, parsed, layer, from }
}

function locationOfStore({ mesosStoreDir }: Pick<AppcSourceOptions, 'mesosStoreDir'>): ImageLocation[] {
  return mesosStoreDir === undefined ? [] : fileLocations('mesos', resolve(mesosStoreDir))
}

/** Creates a source of an image of a Mesos agent's store; its dependencies are searched there. */
export function mesosAppcSource(
  storeDir: string,
  image: MesosAppcImage,
  {
    packer: folders,
    limits,
    mayReplace,
  }: {
    readonly packer: FolderPacker
    readonly limits: DocumentLimits
    readonly mayReplace?: boolean | undefined
  },
): ImageSource {
  const platform = { ...hostPlatform(), ...platformOf(image) }
  const from = locationOfStore({ mesosStoreDir: storeDir })
  const left = openLeftStore(storeDir, limits, () => undefined)
  const { name, labels } = image.manifest
  const appc = createAppcName({ name, labels }, platform)
  return convertedSource({
    name: formatAppcName(appc),
    asked: askedBy({ transport: 'appc', appc }),
    isRemote: false,
    givenBy: 'user',
    mayReplace,
    convert: async (signal) => {
      const load = async (wanted: AppcName) => {
        const found = left.find(wanted)
        if (found !== undefined) return readMesosImage(found, from, folders, signal)
        throw new LoamError(
          'IMAGE_NOT_FOUND',
          `find ${formatAppcName(wanted)} in ${storeDir}: ${name} depends on it, and it is missing`,
        )
      }
      return convertAppc(await readMesosImage(image, from, folders, signal), { platform, load, signal })
    },
  })
}

function platformOf({ manifest }: MesosAppcImage): Partial<Platform> {
  const { os, architecture, variant } = appcPlatform(manifest.labels)
  return os === '' || architecture === '' ? {} : { os, architecture, variant }
}

async function readFetched(
  { urls, path, signaturePath }: FetchedAci,
  options: AppcSourceOptions,
  signal: AbortSignal | undefined,
): Promise<AppcImage> {
  const { keyring, newPath, limits } = options
  let own = path
  if (keyring !== undefined) {
    if (signaturePath === undefined)
      throw new LoamError('SIGNATURE_INVALID', `verify ${urls.aci}: it is not signed`)
    // A copy, so that the file cannot be replaced between the check and the reading.
    own = newPath()
    await copyFile(path, own, constants.COPYFILE_FICLONE)
    const file = { path: own, signaturePath, what: urls.aci }
    await checkSignature(file, { keyring, path: options.path, newPath, signal })
  }
  const { id, diffId, manifestText, manifest, layer } = await readAci(own, {
    what: urls.aci,
    newPath,
    limits,
    signal,
    onNote: options.onNote,
  })
  return { id, diffId, manifest: manifestText, parsed: manifest, layer }
}
