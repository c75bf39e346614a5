import { LoamError } from '../errors/index.ts'
import { type AppcImageId, type AppcLabels, appcPlatformLabels, isAppcImageId } from './appc-manifest.ts'
import type { Platform } from './platform.ts'
import { type StoredReference, storedReference } from './stored-reference.ts'

/** A request for an Appc image: name and labels, and the id that it must have. */
export interface AppcName {
  readonly name: string
  /** Always with version, os and arch. */
  readonly labels: AppcLabels
  readonly id: AppcImageId | undefined
}

const SCHEME = 'appc://'
const IDENTIFIER = /^[a-z0-9]+(?:[-._~/]+[a-z0-9]+)*$/
const LATEST = 'latest'
/** Limits: images name others by them, each part of a name is a location to ask, and each label a part of an address. */
const MAX_NAME_LENGTH = 255
const MAX_LENGTH = 8192

/** Parses `[appc://]NAME[:VERSION][,LABEL=VALUE…][,id=sha512-…]`. @throws REFERENCE_INVALID */
export function parseAppcName(text: string, platform: Platform): AppcName {
  const invalid = (why: string) =>
    new LoamError('REFERENCE_INVALID', `parse Appc image ${JSON.stringify(text.slice(0, 300))}: ${why}`, {
      hint: 'Write appc://NAME[:VERSION][,LABEL=VALUE…][,id=sha512-…], for example appc://example.com/app:1.0,arch=amd64',
    })
  if (text.length > MAX_LENGTH) throw invalid(`it is longer than ${MAX_LENGTH} characters`)
  const plain = text.startsWith(SCHEME) ? text.slice(SCHEME.length) : text
  const [head = '', ...fields] = plain.split(',')
  const colon = head.indexOf(':')
  const labels: Record<string, string> = Object.create(null) as Record<string, string>
  if (colon >= 0) labels['version'] = head.slice(colon + 1)
  for (const field of fields) {
    const equals = field.indexOf('=')
    const name = equals < 0 ? field : field.slice(0, equals)
    if (equals < 0 || !IDENTIFIER.test(name)) throw invalid(`${JSON.stringify(field)} is not a valid label`)
    if (name === 'name') throw invalid('"name" is no label')
    if (labels[name] !== undefined) throw invalid(`it has ${name} twice`)
    labels[name] = field.slice(equals + 1)
  }
  const { id, ...rest } = labels
  if (id !== undefined && !isAppcImageId(id))
    throw invalid(`${JSON.stringify(id.slice(0, 200))} is not a valid image id`)
  return createAppcName({ name: colon < 0 ? head : head.slice(0, colon), labels: rest, id }, platform)
}

/** Returns a request with the labels that it leaves out: the latest version, for a platform. @throws REFERENCE_INVALID */
export function createAppcName(
  {
    name,
    labels,
    id,
  }: { readonly name: string; readonly labels: AppcLabels; readonly id?: string | undefined },
  platform: Platform,
): AppcName {
  const invalid = (why: string) =>
    new LoamError('REFERENCE_INVALID', `ask for Appc image ${JSON.stringify(name.slice(0, 300))}: ${why}`)
  if (name.length > MAX_NAME_LENGTH) throw invalid(`the name is longer than ${MAX_NAME_LENGTH} characters`)
  if (!IDENTIFIER.test(name)) throw invalid('it is no name; names have a-z, 0-9 and -._~/ between them')
  // The specification allows these; in a path or an address they would lead elsewhere.
  if (name.split('/').some((part) => part === '' || part === '.' || part === '..'))
    throw invalid('a part of the name is empty, "." or ".."')
  if (id !== undefined && !isAppcImageId(id))
    throw invalid(`${JSON.stringify(id.slice(0, 200))} is not a valid image id`)
  // In a name it determines the image, whatever the image claims.
  if ('id' in labels) throw invalid('"id" is not a label')
  for (const [label, value] of Object.entries(labels)) {
    // They become parts of file names and addresses.
    if (!IDENTIFIER.test(label) || !/^[^\s/,\0-\x1f\x7f]{1,255}$/.test(value) || value === '..')
      throw invalid(`${JSON.stringify(`${label}=${value}`.slice(0, 300))} is not a valid label`)
  }
  return { name, id, labels: { version: LATEST, ...appcPlatformLabels(platform), ...labels } }
}

/** Returns the form for the store: the labels sorted. */
export function formatAppcName({ name, labels, id }: AppcName): StoredReference {
  const fields = Object.entries(labels)
    .toSorted(([a], [b]) => (a < b ? -1 : 1))
    .map(([label, value]) => `,${label}=${value}`)
  return storedReference(`${SCHEME}${name}${fields.join('')}${id === undefined ? '' : `,id=${id}`}`)
}

/** Returns whether the version is the newest one, whichever that is. */
export function isAppcLatest({ labels, id }: AppcName): boolean {
  return labels['version'] === LATEST && id === undefined
}

/** Returns whether an image with these labels matches a request; an image without os or arch matches every one. */
export function suitsAppcName(
  wanted: AppcName,
  image: { readonly name: string; readonly labels: AppcLabels },
): boolean {
  return (
    image.name === wanted.name &&
    Object.entries(wanted.labels).every(([label, value]) => {
      const own = image.labels[label]
      if (label === 'version' && value === LATEST) return true
      // An image without os or arch is for all of them.
      return own === value || (own === undefined && (label === 'os' || label === 'arch'))
    })
  )
}

/**
 * Compares versions of images, for sorting: numbers by their value, part by part, and a pre-release (`1.0.0-rc.1`) below its version,
 * as in semver. The specification leaves the form of versions open: words are below numbers, and no version is below all.
 */
export function compareAppcVersions(a: string | undefined, b: string | undefined): number {
  if (a === undefined || b === undefined) return Number(a !== undefined) - Number(b !== undefined)
  const [left, right] = [splitVersion(a), splitVersion(b)]
  const byCore = compareParts(left.core, right.core)
  if (byCore !== 0) return byCore
  if (left.before.length === 0 || right.before.length === 0)
    return Number(left.before.length === 0) - Number(right.before.length === 0)
  return compareParts(left.before, right.before)
}

type VersionPart = number | string

function splitVersion(version: string): { core: readonly VersionPart[]; before: readonly VersionPart[] } {
  const [, core = '', before = ''] = /^v?(.*?)(?:[-~](.*?))?(?:\+.*)?$/s.exec(version) ?? []
  return { core: splitParts(core), before: splitParts(before) }
}

/** `1.10rc2` is 1, 10, rc, 2. */
function splitParts(text: string): VersionPart[] {
  return [...text.matchAll(/\d+|[^\d.]+/g)].map(([part]) => (/^\d/.test(part) ? Number(part) : part))
}

function compareParts(left: readonly VersionPart[], right: readonly VersionPart[]): number {
  for (let index = 0; index < Math.max(left.length, right.length); index += 1) {
    const [a, b] = [left[index], right[index]]
    // 1.0 and 1.0.0 are the same; 1.0rc1 comes before 1.0.
    if (a === b || (a ?? 0) === (b ?? 0)) continue
    if (typeof (a ?? 0) !== typeof (b ?? 0)) return typeof (a ?? 0) === 'number' ? 1 : -1
    return (a ?? 0) < (b ?? 0) ? -1 : 1
  }
  return 0
}
