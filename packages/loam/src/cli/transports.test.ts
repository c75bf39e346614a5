import assert from 'node:assert/strict'
import { test } from 'node:test'
import { absoluteImage, sourceOf } from '../client/requests.ts'
import { formatReference, parseReference, pinOf, storedReference } from '../image/index.ts'
import { nameForOthers } from '../images/stored-name.ts'
import type { ListedImage } from '../images/index.ts'
import { parseLocation } from '../policy/index.ts'
import { parseScope } from '../policy/scope.ts'
import type { ImageSource } from '../sources/index.ts'
import { parseFileName, parseImageName } from '../sources/image-name.ts'
import { imageRows } from './image-rows.ts'

const DIGEST = `sha256:${'0'.repeat(64)}`
const DEFAULTS = { registry: 'docker.io', platform: { os: 'linux', architecture: 'amd64' }, cwd: '/none' }

/** What each place makes of the names of a transport. */
interface Answers {
  /** Its transport, or the code of an error, of `NAME:1` as the name of an image. */
  readonly parsed: string
  readonly isFile: boolean
  /** Its kind, or whether it is invalid, as the scope of a rule. */
  readonly scope: string
  readonly bareScope: string
  readonly location: string
  readonly isPinned: boolean
  /** Whether a registry of its name is written with `docker://`. */
  readonly isEscaped: boolean
  /** Whether a list and other machines see it as a name with a repository and a tag. */
  readonly isSplit: boolean
  readonly isForOthers: boolean
  /** The paths that a client makes absolute. */
  readonly sentImage: string
  readonly sentAddress: string
}

function orCode(act: () => string): string {
  try {
    return act()
  } catch (error) {
    return (error as { readonly code: string }).code
  }
}

function scopeOf(text: string): string {
  const scope = parseScope(text, 'docker.io')
  return 'invalid' in scope ? 'invalid' : scope.kind === 'file' ? scope.transport : scope.kind
}

function locationOf(text: string): string {
  const location = parseLocation(text)
  return location.kind === 'file' ? location.transport : location.kind
}

function answersFor(transport: string): Answers {
  const path = `${transport}:/srv/a.tar:1.2`
  const image = { names: [path], pulledAtMs: 0 } as unknown as ListedImage
  const source = { name: storedReference(path), isRemote: true } as ImageSource
  const registry = parseReference('x/a:1')
  const address = sourceOf(`${transport}:a`)
  return {
    parsed: orCode(() => parseImageName(`${transport}:1`, DEFAULTS).transport),
    isFile: parseFileName(`${transport}:1`, '/none') !== undefined,
    scope: scopeOf(`${transport}:/srv/a`),
    bareScope: scopeOf(transport),
    location: locationOf(`${transport}:/srv/a`),
    isPinned: pinOf(`${transport}:/srv/a@${DIGEST}`) !== undefined,
    isEscaped: formatReference({ ...registry, registry: `${transport}:5000` }).startsWith('docker://'),
    isSplit: imageRows([image])[0]?.tag === '1.2',
    isForOthers: nameForOthers(source) !== undefined,
    sentImage: absoluteImage(`${transport}:a`),
    sentAddress: typeof address === 'string' ? address : 'stream',
  }
}

const here = process.cwd()

/** A word that is no transport; those that are one differ from it. */
function unknown(transport: string): Answers {
  return {
    parsed: 'docker',
    isFile: false,
    scope: 'invalid',
    bareScope: 'registry',
    location: 'registry',
    isPinned: true,
    isEscaped: false,
    isSplit: true,
    isForOthers: true,
    sentImage: `${transport}:a`,
    sentAddress: `${here}/${transport}:a`,
  }
}

function file(transport: string, kept: string, isPinned: boolean): Partial<Answers> {
  const sent = `${transport}:${here}/a`
  return {
    ...{ parsed: kept, isFile: true, scope: kept, bareScope: 'invalid', isPinned, isEscaped: true },
    ...{ isSplit: false, isForOthers: false, sentImage: sent, sentAddress: sent },
    ...(transport === kept ? { location: kept } : {}),
  }
}

const FOREIGN = ['containers-storage', 'docker-daemon', 'dir', 'ostree', 'tarball', 'sif', 'atomic']
const DIFFERENCES: Readonly<Record<string, Partial<Answers>>> = {
  oci: file('oci', 'oci', true),
  'oci-archive': file('oci-archive', 'oci', true),
  'docker-archive': file('docker-archive', 'docker-archive', false),
  aci: file('aci', 'aci', false),
  appc: { bareScope: 'invalid' },
  mesos: { scope: 'mesos', bareScope: 'invalid', location: 'mesos' },
  commit: { scope: 'commit', bareScope: 'invalid', location: 'commit' },
  ...Object.fromEntries(FOREIGN.map((name) => [name, { parsed: 'SOURCE_INVALID', isEscaped: true }])),
}

test('each place knows each transport, and no other word', () => {
  const names = [...Object.keys(DIFFERENCES), 'docker', 'constructor', 'ocis', 'xoci']
  assert.deepEqual(
    names.map(answersFor),
    names.map((name) => ({ ...unknown(name), ...DIFFERENCES[name] })),
  )
})
