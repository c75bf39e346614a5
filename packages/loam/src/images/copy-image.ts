import { resolve } from 'node:path'
import { SequentialWriter } from '../content/index.ts'
import { LoamError } from '../errors/index.ts'
import {
  type ArchiveFormat,
  type ImageSink,
  openLayoutSink,
  type SinkManifest,
  writeImageArchive,
  writeOutput,
} from '../exports/index.ts'
import { type Digest, formatReference } from '../image/index.ts'
import { hostPlatform } from '../linux/index.ts'
import { checkPin } from '../metadata/index.ts'
import { type ImageName, type ImageSource, type Referrer } from '../sources/index.ts'
import { ImageCopy } from './image-copy.ts'
import type { PushEvent } from './push-image.ts'
import { openRegistrySink } from './registry-sink.ts'
import type { ImageOptions } from './requests.ts'
import type { ImageServices } from './services.ts'

/** Options of files that images are written to. */
export interface ImageFileOptions {
  /** Replace an existing archive; and the signatures that the destination of a copy has of its own. */
  readonly force?: boolean | undefined
  /** Permissions of an archive; undefined for 0600. */
  readonly mode?: number | undefined
}

/** Options of a copy. `platform` copies the image for that platform alone. */
export interface CopyImageOptions extends ImageOptions, ImageFileOptions {
  /** Also copy what is kept beside the image in its registry: signatures, SBOMs, attestations. */
  readonly referrers?: boolean | undefined
  /** Called for each blob. It must not throw. */
  readonly onCopy?: ((event: PushEvent) => void) | undefined
}

/** The result of a copy. */
export interface CopiedImage {
  /** Name of the source, normalised. */
  readonly from: string
  /** The destination. */
  readonly to: string
  /** Digest of the index or manifest, which is the same at both places. */
  readonly digest: Digest
  /** Its media type. */
  readonly mediaType: string
  /** What was copied beside it. */
  readonly referrers: readonly Referrer[]
  /** What was not copied, since the destination has another artifact under the same tag: signatures of its own. */
  readonly keptReferrers: readonly Referrer[]
}

type CopyServices = Pick<ImageServices, 'sources' | 'cwd'>

/** Where an image is copied to. */
type Destination =
  | { readonly kind: 'registry'; readonly name: Extract<ImageName, { transport: 'docker' }> }
  | { readonly kind: 'layout'; readonly path: string; readonly name: string | undefined }
  | { readonly kind: ArchiveFormat; readonly path: string; readonly name: string | undefined }

/**
 * Copies an image between registries, layouts and archives, without the store: with all its platforms and unchanged to the byte, unless one platform is
 * requested or the destination can hold only one. @throws the errors of `pull` and `push`, OUTPUT_EXISTS, USAGE
 */
export async function copyImage(
  services: CopyServices,
  from: string,
  to: string,
  options: CopyImageOptions,
): Promise<CopiedImage> {
  const { sources } = services
  const { name } = sources.parse(from, options)
  const destination = parseDestination(services, to, options)
  if (options.referrers === true && destination.kind !== 'registry')
    throw new LoamError(
      'USAGE',
      `copy to ${to}: signatures and others beside an image are copied between registries only`,
    )
  const own = name.transport === 'docker' ? name.reference : undefined
  return sources.with(name, options, async (source) =>
    withSink(services, destination, { ...options, from: own }, async (sink) => {
      const { onCopy, signal } = options
      const copy = new ImageCopy(source, sink, {
        limits: sources.documentLimits,
        withForeign: destination.kind === 'docker-archive',
        onCopy,
        signal,
      })
      const platform = options.platform ?? (sink.isSinglePlatform ? hostPlatform() : undefined)
      const manifest = await copy.resolve(platform)
      if (destination.kind === 'registry')
        checkPin(formatReference(destination.name.reference), [manifest.digest])
      await copy.copy(manifest, namesFor(destination, source))
      const beside = options.referrers === true ? await copyReferrers(source, copy, manifest, options) : NONE
      const { digest, mediaType } = manifest
      return { from: source.name, to, digest, mediaType, ...beside }
    }),
  )
}

/** An archive whose user gives no name gets that of the image in its registry; a layout gets none, as from skopeo. */
function namesFor(destination: Destination, source: ImageSource): string[] {
  if (destination.kind === 'registry') return []
  if (destination.name !== undefined) return [destination.name]
  const isOfRegistry = source.isRemote && /^[^/]+\/[^@]*:[^:/@]+$/.test(source.name)
  return isOfRegistry && destination.kind !== 'layout' ? [source.name] : []
}

type CopiedReferrers = Pick<CopiedImage, 'referrers' | 'keptReferrers'>
const NONE: CopiedReferrers = { referrers: [], keptReferrers: [] }

/** Further levels of signatures of signatures are not copied. */
const MAX_REFERRER_LEVELS = 4

/**
 * Copies what is kept beside an image, of its indexes and its manifests, by digest or under its tag; and what is kept beside that, as the signature
 * of an SBOM.
 */
async function copyReferrers(
  source: ImageSource,
  copy: ImageCopy,
  manifest: SinkManifest,
  { signal, force = false }: CopyImageOptions,
): Promise<CopiedReferrers> {
  const referrers: Referrer[] = []
  const keptReferrers: Referrer[] = []
  const seen = new Set<Digest>()
  let subjects: readonly Digest[] = await copy.listManifests(manifest)
  for (let level = 0; level < MAX_REFERRER_LEVELS && subjects.length > 0; level += 1) {
    for (const subject of subjects) seen.add(subject)
    const found = (await source.findReferrers?.(subjects, signal)) ?? []
    const next = new Set<Digest>()
    for (const each of found) {
      const referrer = await copy.get({ digest: each.digest, mediaType: '', sizeBytes: -1 })
      const isCopied = await copy.copyReferrer(referrer, each.tag, force)
      ;(isCopied ? referrers : keptReferrers).push(each)
      for (const digest of await copy.listManifests(referrer)) next.add(digest)
    }
    subjects = [...next].filter((digest) => !seen.has(digest))
  }
  return { referrers, keptReferrers }
}

/** Parses where to copy to: as the name of an image, whose file need not exist. @throws USAGE, SOURCE_INVALID, REFERENCE_INVALID */
function parseDestination({ sources, cwd }: CopyServices, to: string, options: ImageOptions): Destination {
  const archive = /^(oci-archive|docker-archive):(-|\/dev\/stdout)(?::(.+))?$/s.exec(to)
  const { name } = sources.parse(
    archive === null
      ? to
      : `${archive[1]}:${resolve(cwd, 'stdout')}${archive[3] === undefined ? '' : `:${archive[3]}`}`,
    { ...options, imageType: undefined },
  )
  if (name.transport === 'docker') return { kind: 'registry', name }
  if (name.transport === 'aci' || name.transport === 'appc')
    throw new LoamError('USAGE', `copy to ${to}: images are not written as ACIs`)
  const path = archive === null ? name.path : '-'
  const kind = /^(oci-archive|docker-archive):/.exec(to)?.[1]
  if (kind === 'oci-archive') return { kind, path, name: name.selector }
  if (kind !== 'docker-archive') return { kind: 'layout', path, name: name.selector }
  const reference = name.selector === undefined ? undefined : sources.nameInStore(name.selector)
  return { kind, path, name: reference }
}

/** Opens a destination for the duration of a copy. A failure leaves no archive. */
async function withSink<T>(
  { sources, cwd }: CopyServices,
  destination: Destination,
  options: CopyImageOptions & {
    readonly from: { readonly registry: string; readonly repository: string } | undefined
  },
  act: (sink: ImageSink) => Promise<T>,
): Promise<T> {
  const { signal } = options
  if (destination.kind === 'registry') {
    const { reference } = destination.name
    const { from } = options
    const isBeside = from?.registry === reference.registry && from.repository !== reference.repository
    return sources.withClient(reference.registry, options, async (client) =>
      act(openRegistrySink({ reference, client, from: isBeside ? from.repository : undefined, signal })),
    )
  }
  if (destination.kind === 'layout') {
    using sink = openLayoutSink(destination.path, signal)
    return await act(sink)
  }
  return withArchive(destination.path, { ...options, cwd, format: destination.kind }, act)
}

/** Options of an archive that is written. */
export interface ArchiveOptions extends ImageFileOptions {
  readonly cwd: string
  readonly format: ArchiveFormat
  readonly signal?: AbortSignal | undefined
}

/** Writes an archive; `-` is standard output. A failure leaves no file. @throws OUTPUT_EXISTS, OUTPUT_CLOSED, CANCELED */
export async function withArchive<T>(
  output: string,
  { cwd, format, force = false, mode, signal }: ArchiveOptions,
  act: (sink: ImageSink) => Promise<T>,
): Promise<T> {
  let result: { readonly value: T } | undefined
  const mayReplace = (found: { readonly isFile: () => boolean }) => force && found.isFile()
  await writeOutput(output, { cwd, mayReplace, force, mode, signal }, async (target) => {
    const openFile = (path: string) => new SequentialWriter(path)
    await writeImageArchive(format, { target, openFile, signal }, async (sink) => {
      result = { value: await act(sink) }
    })
  })
  if (result === undefined) throw new LoamError('INTERNAL', `write ${output}: nothing was written`)
  return result.value
}
