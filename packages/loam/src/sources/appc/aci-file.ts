/*
 * An ACI: a tar, plain or packed, with the image manifest as `manifest` and the files below `rootfs/` (appc spec/aci.md). Its id is the
 * sha512 of the plain tar. Its layer is the same tar without the manifest and without `rootfs/` before each name.
 */
import { createHash } from 'node:crypto'
import { LoamError, throwIfAborted, toLoamError } from '../../errors/index.ts'
import {
  type AppcImageId,
  type AppcManifest,
  type DiffId,
  parseDiffId,
  type DocumentLimits,
  finishDigest,
  readAppcManifest,
  MEDIA_TYPES,
} from '../../image/index.ts'
import { SequentialWriter } from '../../content/index.ts'
import type { TarEntry, TarEntryInput } from '../../tar/index.ts'
import { splitPath } from '../../tree/index.ts'
import { inflateHere, skipBytes, streamFile } from '../blob-file.ts'
import { archiveFiles } from '../archive-files.ts'
import type { ConvertedLayer } from '../converted.ts'
import { copyTar } from '../tar-copy.ts'
import { scanTarFile } from '../tar-scan.ts'

const SLASH = Buffer.from('/')

/** One image of the App Container specification, read and checked. */
export interface Aci {
  readonly id: AppcImageId
  readonly manifest: AppcManifest
  /** Text of the manifest, unchanged. */
  readonly manifestText: string
  readonly diffId: DiffId
  readonly layer: ConvertedLayer
}

export interface ReadAciOptions {
  /** Name of the file in messages. */
  readonly what: string
  readonly newPath: () => string
  readonly limits: DocumentLimits & { readonly tarBytes: number; readonly ratio: number }
  readonly signal: AbortSignal | undefined
  /** Called with each deviation from the specification. */
  readonly onNote?: ((text: string) => void) | undefined
}

/**
 * Reads an ACI. A compressed one is decompressed into a file first, because its manifest may be anywhere in it. The file is read
 * twice more for its digests. @throws SOURCE_INVALID, DOCUMENT_INVALID, COMPRESSION_INVALID, TAR_INVALID, LAYER_LIMIT
 */
export async function readAci(path: string, options: ReadAciOptions): Promise<Aci> {
  const { what } = options
  try {
    const { id, tarPath } = await unpackAci(path, options)
    await checkLayout(tarPath, what)
    const files = await archiveFiles(tarPath, options.limits)
    const text = files.read('manifest', 'manifest') ?? Buffer.alloc(0)
    const { manifest, breach } = readAppcManifest(text, `manifest of ${what}`)
    if (breach !== undefined)
      options.onNote?.(`${breach}: violates the specification; accepted, as Mesos does`)
    const whitelist = createWhitelist(manifest.pathWhitelist)
    const links = await firstLinks(tarPath, whitelist)
    const open = () => copyTar(tarPath, stripRootfs(whitelist, links))
    const hash = createHash('sha256')
    let sizeBytes = 0
    for await (const chunk of open()) {
      hash.update(chunk)
      sizeBytes += chunk.length
      throwIfAborted(options.signal, `read ${what}`)
    }
    const diffId = parseDiffId(finishDigest('sha256', hash))
    const descriptor = { mediaType: MEDIA_TYPES.ociLayer, digest: diffId, sizeBytes }
    return {
      id,
      manifest,
      manifestText: text.toString('utf8'),
      diffId,
      layer: { descriptor, open: ({ offset }) => skipBytes(open(), offset) },
    }
  } catch (error) {
    throw toLoamError(error, `read ${what}`)
  }
}

async function unpackAci(
  path: string,
  { newPath, limits, what, signal }: ReadAciOptions,
): Promise<{ id: AppcImageId; tarPath: string }> {
  const hash = createHash('sha512')
  const tarPath = newPath()
  {
    await using writer = new SequentialWriter(tarPath)
    for await (const chunk of inflateHere(streamFile(path, signal), `unpack ${what}`, { limits, signal })) {
      hash.update(chunk)
      await writer.write(chunk)
    }
    await writer.flush()
  }
  return { id: `sha512-${hash.digest('hex')}` as AppcImageId, tarPath }
}

/** As `actool validate`: a manifest, a folder rootfs, and nothing else beside them. */
async function checkLayout(tarPath: string, what: string): Promise<void> {
  const invalid = (why: string) => new LoamError('SOURCE_INVALID', `read ${what}: ${why}`)
  let hasManifest = false
  let hasRootfs = false
  await scanTarFile(tarPath, (entry) => {
    const parts = splitPath(entry.name)
    if (parts === undefined) throw invalid('a name points outside the archive')
    const top = parts[0]?.toString('latin1')
    if (top === undefined) return
    if (top === 'manifest' && parts.length === 1) {
      if (hasManifest) throw invalid('it has two manifests')
      if (entry.type !== 'file') throw invalid('its manifest is no regular file')
      hasManifest = true
    } else if (top !== 'rootfs') {
      throw invalid(`it has ${JSON.stringify(top)} beside manifest and rootfs`)
    } else if (parts.length === 1) {
      if (entry.type !== 'directory') throw invalid('its rootfs is not a directory')
      hasRootfs = true
    }
  })
  if (!hasManifest) throw invalid('it has no manifest')
  if (!hasRootfs) throw invalid('it has no rootfs')
}

/** Paths below the root that are in the image, as keys; undefined for all. */
export function createWhitelist(paths: readonly string[]): ReadonlySet<string> | undefined {
  if (paths.length === 0) return undefined
  return new Set(paths.map((path) => keyOf(splitPath(Buffer.from(path)) ?? [])))
}

/** Returns a path's parts as text; equal bytes give equal text. */
export function keyOf(parts: readonly Buffer[]): string {
  return parts.map((part) => part.toString('latin1')).join('/')
}

/** Returns the name below rootfs/; undefined for an entry outside it. */
function innerParts(name: Buffer): Buffer[] | undefined {
  const parts = splitPath(name)
  return parts?.[0]?.toString('latin1') === 'rootfs' ? parts.slice(1) : undefined
}

/** Finds, for each excluded file, its first included hard link: that link gets the data. */
async function firstLinks(
  tarPath: string,
  whitelist: ReadonlySet<string> | undefined,
): Promise<ReadonlyMap<string, string>> {
  const firsts = new Map<string, string>()
  if (whitelist === undefined) return firsts
  await scanTarFile(tarPath, (entry) => {
    if (entry.type !== 'hardlink') return
    const name = innerParts(entry.name)
    const target = innerParts(entry.linkName)
    if (name === undefined || target === undefined) return
    if (whitelist.has(keyOf(name)) && !whitelist.has(keyOf(target)) && !firsts.has(keyOf(target)))
      firsts.set(keyOf(target), keyOf(name))
  })
  return firsts
}

/** Returns a function that changes an entry of an ACI into one of its layer. Folders stay, whether they are listed or not. */
function stripRootfs(
  whitelist: ReadonlySet<string> | undefined,
  links: ReadonlyMap<string, string>,
): (entry: TarEntry) => TarEntryInput | undefined {
  const bytes = (key: string) => Buffer.from(`./${key}`, 'latin1')
  return (entry) => {
    const parts = innerParts(entry.name)
    if (parts === undefined) return undefined
    const key = keyOf(parts)
    // tar writes the names of folders with a slash at the end.
    const name = entry.type === 'directory' && key !== '' ? Buffer.concat([bytes(key), SLASH]) : bytes(key)
    if (entry.type === 'directory') return { ...entry, name }
    const isListed = whitelist === undefined || whitelist.has(key)
    if (entry.type === 'hardlink') {
      const target = innerParts(entry.linkName)
      if (target === undefined) {
        throw new LoamError(
          'TAR_UNSAFE',
          `read ACI: the hard link ${JSON.stringify(key)} leads out of rootfs`,
        )
      }
      const stand = links.get(keyOf(target)) ?? keyOf(target)
      return isListed && stand !== key ? { ...entry, name, linkName: bytes(stand) } : undefined
    }
    const heir = isListed ? undefined : links.get(key)
    if (isListed || heir !== undefined) return { ...entry, name: heir === undefined ? name : bytes(heir) }
    return undefined
  }
}
