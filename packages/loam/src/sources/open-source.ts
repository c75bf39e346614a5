import { closeSync, existsSync, readSync, statSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { detectPacking, HEAD_BYTES } from '../compression/index.ts'
import { isErrno, LoamError, toLoamError } from '../errors/index.ts'
import { archiveAddress, type Digest, formatReference, type ImageReference } from '../image/index.ts'
import { openInput } from '../linux/index.ts'
import { SequentialWriter } from '../content/index.ts'
import { distinctLocations, fileLocation, type ImageLocation, registryLocation } from '../policy/index.ts'
import type { RegistryClient } from '../registry/index.ts'
import type { AppcSourceOptions } from './appc/appc-source.ts'
import type { ArchiveChoice } from './archived-images.ts'
import { inflateHere, streamFile } from './blob-file.ts'
import { dockerArchiveSource } from './docker-archive.ts'
import { dockerV1Source, isDockerV1 } from './docker-v1.ts'
import { firstSource, type SourceCandidate } from './first-source.ts'
import { askedBy, type ImageName, parseFileName } from './image-name.ts'
import type { ImageSource } from './image-source.ts'
import { archiveFiles, folderFiles, type ArchiveFiles } from './archive-files.ts'
import { type ArchivedSource, dockerParts, layoutParts, type Part } from './archive-parts.ts'
import { isOciLayout, ociLayoutSource, selectInLayout } from './oci-layout.ts'
import { copyFromPipe, copyStream } from './piped-file.ts'
import { registrySource } from './registry-source.ts'
import { fetchFile, isAddress } from './remote-file.ts'

/** A location of Docker images: an address of a registry, or a folder of archives here or in HDFS. */
export type DockerEndpoint =
  | { readonly kind: 'registry'; readonly registry: string }
  | { readonly kind: 'archives'; readonly folder: string }

export interface OpenSourceOptions extends AppcSourceOptions {
  readonly client: RegistryClient
  /** Locations of references, in order of precedence. */
  readonly dockerEndpoints: readonly DockerEndpoint[]
  /** The registry of names without a host. */
  readonly defaultRegistry: string
  /** Directory that relative paths start from; '' for that of this process. */
  readonly cwd: string
  /** Whether an artifact in a registry is an image of its files. */
  readonly mayBeArtifact?: boolean | undefined
  /** Cancels the work of opening: fetching a file, decompressing it. */
  readonly signal?: AbortSignal | undefined
}

/** A signature policy evaluates a stream like standard input. */
const STREAM_LOCATION = '-'

/** Loads the modules of Appc on demand: loading them takes a tenth of a cached provision. */
const loadAppc = async () => import('./appc/appc-source.ts')

/** Opens the source that a name names. @throws SOURCE_NOT_FOUND, SOURCE_INVALID, IMAGE_NOT_FOUND */
export async function openSource(name: ImageName, options: OpenSourceOptions): Promise<ImageSource> {
  switch (name.transport) {
    case 'docker':
      return openReference(name.reference, options)
    case 'appc':
      return (await loadAppc()).appcSource(name.appc, options)
    case 'aci':
      return (await loadAppc()).aciSource(name.path, options)
    case 'docker-archive':
      return asArchive(
        name,
        await archiveSource(name.path, name, await openMembers(name.path, options), options),
      )
    case 'oci':
      return ociLayoutSource({ ...options, ...name, members: await openMembers(name.path, options) })
  }
}

/** Gives a source the locations of its archive besides its own: an archive may contain a layout. */
function asArchive(name: ImageName, source: ImageSource): ImageSource {
  const { locations, pin } = askedBy(name)
  const asked = { locations: distinctLocations([...locations, ...source.asked.locations]), pin }
  return Object.assign(source, { asked, from: () => asked.locations })
}

/** The location of an image: a path, a URL, `-` for standard input; or its bytes, which are copied into a file. */
export type ImageAddress = string | AsyncIterable<Uint8Array>

/**
 * Opens an image in a file or folder, whose format is detected, or which is named with its transport (`docker-archive:FILE:REF`).
 * `reference` chooses among several images. @throws as `openSource`
 */
export async function openAnySource(
  address: ImageAddress,
  reference: ImageReference | undefined,
  options: OpenSourceOptions,
): Promise<ImageSource> {
  if (typeof address !== 'string')
    return openCopy(STREAM_LOCATION, await copyStream(address, options), reference, options)
  const named = parseFileName(address, options.cwd)
  if (named !== undefined) return openSource(named, options)
  const { location, path } = await findFile(address, options)
  return openCopy(location, path, reference, options)
}

async function findFile(
  address: string,
  options: OpenSourceOptions,
): Promise<{ readonly location: string; readonly path: string }> {
  const location = isAddress(address) || address === '-' ? address : resolve(options.cwd, address)
  const path = isAddress(address)
    ? await fetchFile(address, options, options.signal)
    : await copyFromPipe(location, options)
  return { location, path }
}

/**
 * Opens all images of a file or folder, whose format is detected. An OCI layout is preferred to an archive of Docker that contains it, since
 * it has the manifests. @throws as `openSource`
 */
export async function openAllSources(
  address: ImageAddress,
  options: OpenSourceOptions,
): Promise<ArchivedSource[]> {
  const { location, path } =
    typeof address === 'string'
      ? await findFile(archiveAddress(address), options)
      : { location: STREAM_LOCATION, path: await copyStream(address, options) }
  const members = await openMembers(path, options)
  if (members.sizeOf('manifest') !== undefined && members.sizeOf('manifest.json') === undefined)
    throw new LoamError('SOURCE_INVALID', `load ${location}: it is an ACI, which has no name of its own`, {
      hint: `loam put ${location} NAME`,
    })
  const parts = isOciLayout(members)
    ? await layoutParts({ path, members, signal: options.signal }, options.onNote)
    : isDockerV1(members)
      ? [{ names: [] }]
      : dockerParts(path, members)
  return parts.map(({ names, selector, entries, position }: Part) => ({
    names,
    open: async () =>
      withOrigin(
        location,
        path,
        isOciLayout(members)
          ? ociLayoutSource({ path, selector, entries, members, platform: options.platform })
          : await archiveSource(path, { selector, position }, members, options),
      ),
  }))
}

async function openCopy(
  location: string,
  path: string,
  reference: ImageReference | undefined,
  options: OpenSourceOptions,
): Promise<ImageSource> {
  const members = await openMembers(path, options)
  if (members.sizeOf('manifest') !== undefined && members.sizeOf('manifest.json') === undefined) {
    return withOrigin(location, path, (await loadAppc()).aciSource(path, options))
  }
  return withOrigin(location, path, await archiveSource(path, { name: reference }, members, options))
}

/** Replaces the location of a copy, which ends with the request, by the original address. */
function withOrigin(address: string, path: string, source: ImageSource): ImageSource {
  if (path === address || address.startsWith('file://') || path.startsWith('/proc/')) return source
  const { asked, from } = source
  const move = (locations: readonly ImageLocation[]) =>
    distinctLocations(
      locations.map((location) =>
        location.kind === 'file' ? fileLocation(location.transport, address) : location,
      ),
    )
  return Object.assign(source, {
    asked: { ...asked, locations: move(asked.locations) },
    from: () => move(from?.() ?? []),
  })
}

/** Archives of Docker come in three forms: of before 1.10, of before 25, and with an OCI layout inside. */
async function archiveSource(
  path: string,
  choice: ArchiveChoice,
  members: ArchiveFiles,
  { folders, platform, signal }: Pick<OpenSourceOptions, 'folders' | 'platform' | 'signal'>,
): Promise<ImageSource> {
  if (isDockerV1(members)) return dockerV1Source(path, choice, members, folders)
  if (!isOciLayout(members) || members.sizeOf('manifest.json') !== undefined)
    return dockerArchiveSource(path, choice, members)
  const named =
    choice.name === undefined ? undefined : await selectInLayout(choice.name, { path, members, signal })
  return ociLayoutSource({ path, selector: choice.selector ?? named, members, platform })
}

function openReference(reference: ImageReference, options: OpenSourceOptions): ImageSource {
  const { client, dockerEndpoints, newPath } = options
  // A name with a registry is searched in the archives and in that registry; others in every location.
  const isElsewhere = reference.registry !== options.defaultRegistry
  const archives = dockerEndpoints.filter(({ kind }) => kind === 'archives')
  const endpoints: readonly DockerEndpoint[] = isElsewhere
    ? [...archives, { kind: 'registry', registry: reference.registry }]
    : dockerEndpoints
  const candidates = endpoints.map(
    (endpoint): SourceCandidate =>
      endpoint.kind === 'registry'
        ? {
            where: endpoint.registry,
            open: async () =>
              registrySource(inRegistry(reference, endpoint.registry), client, newPath, options),
          }
        : {
            where: endpoint.folder,
            open: async (signal) => openFromFolder(endpoint.folder, reference, options, signal),
          },
  )
  const [only, other] = endpoints
  return only?.kind === 'registry' && only.registry === reference.registry && other === undefined
    ? registrySource(reference, client, newPath, options)
    : firstSource(
        formatReference(reference),
        { locations: [registryLocation(reference)], pin: reference.digest },
        candidates,
      )
}

/** Returns a reference of the same image in another registry; Docker Hub keeps names of one part below library/. */
function inRegistry(reference: ImageReference, registry: string): ImageReference {
  const short = reference.repository.replace(/^library\//, '')
  const repository =
    registry === 'docker.io' && !short.includes('/') ? `library/${short}` : reference.repository
  return registry === reference.registry ? reference : { ...reference, registry, repository }
}

/** Finds the archive of a reference in a folder: `<reference>.tar`, in any spelling of the reference. */
async function openFromFolder(
  folder: string,
  reference: ImageReference,
  options: OpenSourceOptions,
  signal: AbortSignal | undefined,
): Promise<ImageSource> {
  const names = archiveNames(reference)
  const failures: string[] = []
  for (const name of names) {
    const address = folder.startsWith('hdfs://')
      ? `${folder.replace(/(?<!\/)\/+$/, '')}/${name}`
      : join(folder, name)
    if (!folder.startsWith('hdfs://') && !existsSync(address)) continue
    try {
      const path = await fetchFile(address, options, signal)
      const members = await openMembers(path, { ...options, signal })
      const source = withOrigin(
        address,
        path,
        await archiveSource(path, { name: reference }, members, { ...options, signal }),
      )
      return withDigest(source, reference.digest, address)
    } catch (error) {
      const failure = toLoamError(error, `open ${address}`)
      if (failure.code !== 'SOURCE_NOT_FOUND') throw failure
      failures.push(failure.message)
    }
  }
  throw new LoamError(
    'IMAGE_NOT_FOUND',
    `find the archive of ${reference.typed} in ${folder}: ${failures.join('; ') || 'none found'}`,
    { hint: `Looked for ${names.join(', ')}.` },
  )
}

/** Verifies that an image has the requested digest, whatever the name of its file. */
function withDigest(source: ImageSource, digest: Digest | undefined, address: string): ImageSource {
  if (digest === undefined) return source
  const { resolve: resolveAny } = source
  return Object.assign(source, {
    resolve: async (signal?: AbortSignal) => {
      const document = await resolveAny(signal)
      if (document.digest === digest) return document
      throw new LoamError(
        'DIGEST_MISMATCH',
        `verify ${address}: expected ${digest}, got ${document.digest}`,
        {
          hint: 'Archives of docker save do not keep the digest of the registry; archives of OCI layouts do.',
        },
      )
    },
  })
}

function archiveNames({ typed, registry, repository, tag, digest }: ImageReference): string[] {
  const short = repository.replace(/^library\//, '')
  const ends = digest === undefined ? [`:${tag}`, ...(tag === 'latest' ? [''] : [])] : [`@${digest}`]
  const starts = [`${registry}/${repository}`, repository, short]
  const all = [typed, ...starts.flatMap((start) => ends.map((end) => `${start}${end}`))]
  return [...new Set(all.map((name) => `${name}.tar`))]
}

async function openMembers(
  path: string,
  { newPath, limits, signal }: Pick<OpenSourceOptions, 'newPath' | 'limits' | 'signal'>,
): Promise<ArchiveFiles> {
  try {
    if (statSync(path).isDirectory()) return folderFiles(path, limits)
    return await archiveFiles(isPacked(path) ? await unpack(path, newPath(), signal) : path, limits)
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ENOTDIR')) {
      throw new LoamError('SOURCE_NOT_FOUND', `open ${path}: it does not exist`, {
        cause: error,
      })
    }
    const failure = toLoamError(error, `open ${path}`, signal)
    if (failure.code !== 'SOURCE_INVALID' || !isPipe(path)) throw failure
    throw new LoamError(failure.code, failure.message, {
      cause: failure,
      hint: 'To read an archive from a pipe: loam put - NAME',
    })
  }
}

function isPipe(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isFIFO() ?? false
}

function isPacked(path: string): boolean {
  const head = Buffer.alloc(HEAD_BYTES)
  const fd = openInput(path)
  try {
    readSync(fd, head)
  } finally {
    closeSync(fd)
  }
  return detectPacking(head) !== 'none'
}

/** Decompresses an archive, which could not be read in place. The owner of the path removes the copy. */
async function unpack(path: string, plain: string, signal: AbortSignal | undefined): Promise<string> {
  await using writer = new SequentialWriter(plain)
  for await (const chunk of inflateHere(streamFile(path, signal), `open ${path}`, { signal }))
    await writer.write(chunk)
  await writer.flush()
  return plain
}
