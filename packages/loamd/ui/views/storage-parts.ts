import type { LayerUsage, StoreUsage } from 'loamfs'
import { formatBytes, formatCount, imageName, shortDigest, splitHost } from '../format.ts'
import type { Tile } from '../parts/treemap.tsx'
import { imageHref } from '../router.ts'

/** Colours of images, by their place in the list. */
const TONES = 8

/** A part of the store's space. */
export interface StoragePart {
  readonly key: string
  readonly kind: 'image' | 'shared' | 'containers' | 'unused' | 'other'
  readonly name: string
  readonly note?: string
  readonly bytes: number
  /** Of an image. */
  readonly digest?: string
  readonly tone: string
  readonly items: readonly { readonly name: string; readonly note?: string; readonly bytes: number }[]
}

/** Returns the parts of the store's space, the largest first; their sum is all of it. */
export function partsOf(all: StoreUsage): StoragePart[] {
  const own = Map.groupBy(
    all.layers.filter(({ images }) => images.length === 1),
    ({ images: [image] }) => image ?? '',
  )
  const parts: StoragePart[] = all.images.map((image, index) => {
    const layers = (own.get(image.names[0] ?? image.digest) ?? []).map(toItem)
    const rest = image.ownBytes - sum(layers)
    return {
      key: image.digest,
      kind: 'image',
      name: imageName(image),
      note: image.sharedBytes > 0 ? `and ${formatBytes(image.sharedBytes)} shared` : 'shares nothing',
      bytes: image.ownBytes,
      digest: image.digest,
      tone: `tone-${index % TONES}`,
      items: rest > 0 ? [...layers, { name: 'merged tree', bytes: rest }] : layers,
    }
  })
  const shared = all.layers.filter(({ images }) => images.length > 1)
  const unused = all.layers.filter(({ images }) => images.length === 0)
  parts.push(
    group('shared', 'Shared layers', shared.map(toItem), formatCount(shared.length, 'layer')),
    group(
      'containers',
      'Containers',
      all.containers.map(({ id, bytes, reference }) => ({ name: id, note: reference, bytes })),
      formatCount(all.containers.length, 'root filesystem'),
    ),
    group('unused', 'Not in use', unused.map(toItem), formatCount(unused.length, 'layer')),
  )
  const otherBytes = all.totalBytes - sum(parts)
  parts.push({ ...group('other', 'Database and documents', []), bytes: Math.max(0, otherBytes) })
  return parts.filter(({ bytes }) => bytes > 0).toSorted((a, b) => b.bytes - a.bytes)
}

/** Returns the parts as tiles of a picture. A part of a single object is one tile. */
export function toTiles(parts: readonly StoragePart[]): Tile[] {
  return parts.map(({ name, note, bytes, digest, tone, items }) => {
    const common = { tone, ...(digest === undefined ? {} : { href: imageHref(digest) }) }
    return {
      ...common,
      name: digest === undefined ? name : splitHost(name)[1],
      note: note ?? '',
      bytes,
      ...(items.length < 2 ? {} : { children: items.map((item) => ({ ...item, ...common })) }),
    }
  })
}

function group(
  kind: Exclude<StoragePart['kind'], 'image'>,
  name: string,
  items: StoragePart['items'],
  note?: string,
): StoragePart {
  return {
    key: kind,
    kind,
    name,
    bytes: sum(items),
    tone: toneOf(kind),
    items,
    ...(note === undefined ? {} : { note }),
  }
}

function toItem({ diffId, bytes, partialOfBytes, folderBytes, images }: LayerUsage): {
  name: string
  note: string
  bytes: number
} {
  return {
    name: `layer ${shortDigest(diffId)}`,
    note: [
      ...(partialOfBytes === undefined
        ? []
        : [`lazy: ${formatBytes(bytes)} of ${formatBytes(partialOfBytes)} here`]),
      ...(images.length > 1 ? [`of ${images.join(', ')}`] : []),
    ].join(', '),
    bytes: bytes + folderBytes,
  }
}

function sum(all: readonly { readonly bytes: number }[]): number {
  return all.reduce((total, { bytes }) => total + bytes, 0)
}

/** `tone-shared` is the colour of bars. */
function toneOf(kind: StoragePart['kind']): string {
  return kind === 'shared' ? 'tone-common' : `tone-${kind}`
}
