import { isLoamError, LoamError, visible } from '../errors/index.ts'
import { formatPlatform, parsePlatform, parseReference, splitTransport } from '../image/index.ts'
import type { ListedImage } from '../images/index.ts'
import type { PartialLayerInfo } from '../lazy/index.ts'
import { formatAge, formatBytes, shortDigest } from './format.ts'
import { filterOf, type ListDefinition } from './lists.ts'
import { dataField } from './missing-data.ts'

/** A row of `loam images`: an image under one of its names. */
export interface ImageRow {
  readonly image: ListedImage
  /** Undefined for an image without a name. */
  readonly name: string | undefined
  readonly repository: string
  readonly tag: string
  /** Its layers whose data is not all here. */
  readonly partials: readonly PartialLayerInfo[]
}

const NONE = '<none>'
/** What `originOf` can be. */
const ORIGINS = ['local', 'registry']

/** Returns a row for each name of each image, the latest pulled first. */
export function imageRows(
  images: readonly ListedImage[],
  partialLayers: readonly PartialLayerInfo[] = [],
): ImageRow[] {
  return images
    .toSorted((a, b) => b.pulledAtMs - a.pulledAtMs)
    .flatMap((image): ImageRow[] => {
      const partials = partialLayers.filter((layer) => layer.images.includes(image.digest))
      return image.names.length === 0
        ? [{ image, name: undefined, repository: NONE, tag: NONE, partials }]
        : image.names.map((name) => ({ image, name, ...splitName(name), partials }))
    })
}

/** Splits a name of a registry into its repository and its tag; another name is a repository as a whole. */
function splitName(name: string): { readonly repository: string; readonly tag: string } {
  const isFile = splitTransport(name, 'file') !== undefined || name.startsWith('appc://')
  const [, repository, tag] = isFile ? [] : (/^(.+?)(?::([^:/@]+))?(?:@.*)?$/s.exec(name) ?? [])
  return { repository: repository ?? name, tag: tag ?? NONE }
}

/** Returns whether a row is an image that a word of the command line names: a repository, with or without tag, with `*` and `?`. */
export function isNamed({ name, repository }: ImageRow, pattern: string): boolean {
  if (name === undefined) return false
  const forms = [name, repository].flatMap((each) => [
    each,
    each.replace(/^docker\.io\/(?:library\/)?/, ''),
    each.replace(/^docker\.io\//, ''),
    ...(/[*?]/.test(pattern) || pattern.includes('/') ? [] : [each.slice(each.lastIndexOf('/') + 1)]),
  ])
  return forms.some((form) => fitsGlob(pattern, form)) || name === normalized(pattern)
}

function normalized(text: string): string | undefined {
  try {
    const { registry, repository, tag } = parseReference(text)
    return `${registry}/${repository}:${tag ?? 'latest'}`
  } catch (error) {
    if (isLoamError(error)) return undefined
    throw error
  }
}

/** Returns whether a text fits a pattern of `*` and `?`, which stop at slashes, as in docker. */
export function fitsGlob(glob: string, text: string): boolean {
  const [parts, given] = [glob.split('/'), text.split('/')]
  return parts.length === given.length && parts.every((part, index) => fitsPart(part, given[index] ?? ''))
}

/** Backtracks only to the last star. */
function fitsPart(glob: string, text: string): boolean {
  let [at, inGlob] = [0, 0]
  let star: { at: number; readonly inGlob: number } | undefined
  while (at < text.length) {
    const wanted = glob[inGlob]
    if (wanted === '*') {
      inGlob += 1
      star = { at, inGlob }
    } else if (wanted === '?' || wanted === text[at]) {
      at += 1
      inGlob += 1
    } else if (star !== undefined) {
      star.at += 1
      ;({ at, inGlob } = star)
    } else return false
  }
  return /^\**$/.test(glob.slice(inGlob))
}

/** Returns the list of images: its columns, filters and orders. */
export function imageList(rows: readonly ImageRow[]): ListDefinition<ImageRow> {
  const pulledAt = (key: string, word: string) => {
    const found = rows.find((row) => isNamed(row, word) || isDigestOf(row.image, word))
    if (found !== undefined) return found.image.pulledAtMs
    throw new LoamError('IMAGE_NOT_FOUND', `read --filter ${key}: there is no image ${word}`)
  }
  return {
    fields: [...FIELDS, dataField(rows)],
    idOf: ({ image }, isFull) => (isFull ? image.digest : shortDigest(image.digest)),
    filters: {
      reference: (value) => (row) => isNamed(row, value),
      dangling: (value) => {
        const isWanted = isYes('dangling', value)
        return ({ image }) => (image.names.length === 0) === isWanted
      },
      platform: byPlatform,
      origin: filterOf('origin', ORIGINS, ({ image }) => originOf(image)),
      before: (value) => {
        const limit = pulledAt('before', value)
        return ({ image }) => image.pulledAtMs < limit
      },
      since: (value) => {
        const limit = pulledAt('since', value)
        return ({ image }) => image.pulledAtMs > limit
      },
      digest: byDigest,
      id: byDigest,
    },
    sorts: {
      '-pulled': ({ image }) => image.pulledAtMs,
      '-created': ({ image }) => image.created ?? '',
      size: ({ image }) => image.tarBytes,
      packed: ({ image }) => image.sizeBytes,
      name: ({ name = '' }) => name,
      repository: ({ repository }) => repository,
      tag: ({ tag }) => tag,
      id: ({ image }) => image.digest,
      digest: ({ image }) => image.digest,
    },
  }
}

function isDigestOf({ digest, configDigest }: ListedImage, text: string): boolean {
  const start = text.includes(':') ? text : `sha256:${text}`
  return text !== '' && [digest, configDigest].some((each) => each.startsWith(start))
}

/** A platform without a variant has all of them, and an operating system all of its platforms. @throws USAGE, PLATFORM_INVALID */
function byPlatform(value: string): (row: ImageRow) => boolean {
  const parts = value.split('/').length
  const wanted = parts > 1 ? formatPlatform(parsePlatform(value)) : value
  return ({ image: { platform } }) => platform === wanted || (parts < 3 && platform.startsWith(`${wanted}/`))
}

/** @throws USAGE */
function byDigest(value: string): (row: ImageRow) => boolean {
  if (/^(?:sha(?:256|512):)?[0-9a-f]+$/.test(value)) return ({ image }) => isDigestOf(image, value)
  throw new LoamError('USAGE', `read --filter: ${value} is not the beginning of a digest`)
}

function isYes(key: string, value: string): boolean {
  if (/^(?:true|1)$/i.test(value)) return true
  if (/^(?:false|0)$/i.test(value)) return false
  throw new LoamError('USAGE', `read --filter ${key}=${value}: expected true or false`)
}

function originOf({ isLocal }: ListedImage): string {
  return isLocal ? 'local' : 'registry'
}

const FIELDS: ListDefinition<ImageRow>['fields'] = [
  { name: 'Name', heading: 'IMAGE', text: ({ name }) => name ?? NONE },
  {
    name: 'ID',
    heading: 'ID',
    text: ({ image }, isFull) => (isFull ? image.digest : shortDigest(image.digest)),
  },
  { name: 'Platform', heading: 'PLATFORM', text: ({ image }) => image.platform, leftOut: 3 },
  { name: 'Layers', heading: 'LAYERS', text: ({ image }) => String(image.layers.length), leftOut: 1 },
  { name: 'Size', heading: 'SIZE', text: ({ image }) => formatBytes(image.tarBytes) },
  {
    name: 'PulledSince',
    heading: 'PULLED',
    text: ({ image }) => (image.damage === undefined ? formatAge(image.pulledAtMs) : 'damaged'),
    leftOut: 4,
  },
  { name: 'Origin', heading: 'ORIGIN', text: ({ image }) => originOf(image), leftOut: 2 },
  ...hidden({
    Repository: ({ repository }) => repository,
    Tag: ({ tag }) => tag,
    Digest: ({ image }) => image.digest,
    ImageID: ({ image }) => image.configDigest,
    Packed: ({ image }) => formatBytes(image.sizeBytes),
    PulledAt: ({ image }) => new Date(image.pulledAtMs).toISOString(),
    CreatedAt: ({ image }) => image.created ?? '',
    CreatedSince: ({ image: { created } }) =>
      created === undefined || Number.isNaN(Date.parse(created)) ? 'N/A' : formatAge(Date.parse(created)),
  }),
]

function hidden(
  texts: Readonly<Record<string, (row: ImageRow) => string>>,
): ListDefinition<ImageRow>['fields'] {
  return Object.entries(texts).map(([name, text]) => ({
    name,
    heading: name.replaceAll(/(?<=[a-z])(?=[A-Z])/g, ' ').toUpperCase(),
    text: (row) => visible(text(row)),
    isHidden: true,
  }))
}
