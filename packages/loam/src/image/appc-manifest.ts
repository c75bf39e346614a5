/*
 * The image manifest of the App Container specification (spec/aci.md), checked by the rules of its schema package:
 *   { "acKind": "ImageManifest", "acVersion": "0.8.11", "name": "example.com/app", "labels": [{"name","value"}],
 *     "app": { "exec", "user", "group", … }, "dependencies": [{"imageName","imageID","labels"}], "pathWhitelist": [] }
 * Mesos checks less: the kind, that there are a version and a name, and the types of the fields that it reads (appc/spec.cpp, appc/spec.proto).
 */
import * as v from 'valibot'
import { isLoamError, LoamError } from '../errors/index.ts'
import { parseStrictJson } from './json.ts'
import { check, type RunConfig } from './documents.ts'
import type { Platform } from './platform.ts'

/** Labels by their names. */
export type AppcLabels = Readonly<Record<string, string>>

declare const brand: unique symbol
/** `sha512-` and the 128 hex digits of an ACI's uncompressed tar. Safe as a part of a path. */
export type AppcImageId = string & { readonly [brand]: 'AppcImageId' }

/** Another image that is below an image. */
export interface AppcDependency {
  readonly name: string
  /** Undefined if any image of that name and these labels will do. */
  readonly id: string | undefined
  readonly labels: AppcLabels
}

/** The manifest of an ACI. */
export interface AppcManifest {
  readonly name: string
  readonly labels: AppcLabels
  readonly created: string | undefined
  /** The lowest one last, as in the manifest. */
  readonly dependencies: readonly AppcDependency[]
  /** Absolute paths that are the only ones in the rendered image; empty for all. */
  readonly pathWhitelist: readonly string[]
  /** The app section in the terms of an image config; undefined when it is missing. */
  readonly run: RunConfig | undefined
}

const IMAGE_ID = /^sha512-[0-9a-f]{128}$/
const EDGE = /^[-._~/]|[-._~/]$/
/** Go's JSON accepts null for an empty list. */
const list = <const Schema extends v.GenericSchema>(item: Schema) => v.nullish(v.array(item))
const identifier = v.pipe(
  v.string(),
  v.regex(/^[a-z0-9-._~/]+$/, 'has other characters than a-z, 0-9 and -._~/'),
  v.check((text) => !EDGE.test(text), 'starts or ends with none of a-z and 0-9'),
)
const acName = v.pipe(
  v.string(),
  v.regex(/^[a-z0-9-]+$/, 'has other characters than a-z, 0-9 and -'),
  v.check((text) => !/^-|-$/.test(text), 'starts or ends with a hyphen'),
)
const pairs = list(v.object({ name: identifier, value: v.string() }))

/** The systems and architectures that a label may name. */
const ARCHITECTURES: Readonly<Record<string, readonly string[]>> = {
  linux: [
    'amd64',
    'i386',
    'aarch64',
    'aarch64_be',
    'armv6l',
    'armv7l',
    'armv7b',
    'ppc64',
    'ppc64le',
    's390x',
  ],
  freebsd: ['amd64', 'i386', 'arm'],
  darwin: ['x86_64', 'i386'],
}
const labels = v.pipe(
  pairs,
  v.check((given) => isUnique((given ?? []).map(({ name }) => name)), 'has a label twice'),
  v.check((given) => (given ?? []).every(({ name }) => name !== 'name'), 'has a label "name"'),
  v.check(
    (given) => isKnownArchitecture(toLabels(given)),
    'names an os or arch that the specification does not have',
  ),
)
const hash = v.pipe(v.string(), v.regex(/^sha512-[^-]+$/, 'is not a valid image id'))
const uint = v.pipe(v.number(), v.safeInteger(), v.minValue(0))
const VARIABLE = /^[A-Za-z_][A-Za-z_0-9.-]*$/

const environment = v.pipe(
  list(
    v.object({
      name: v.pipe(v.string(), v.regex(VARIABLE, 'is not a valid variable name')),
      value: v.string(),
    }),
  ),
  v.check((given) => isUnique((given ?? []).map(({ name }) => name)), 'has a variable twice'),
)
const port = v.pipe(
  v.object({
    name: acName,
    protocol: v.optional(v.string(), ''),
    port: v.pipe(uint, v.minValue(1), v.maxValue(65_535)),
    count: v.optional(uint, 0),
  }),
  v.check(({ port: first, count }) => first + count <= 65_536, 'ends behind port 65535'),
)
const eventHandlers = v.pipe(
  list(v.object({ name: v.picklist(['pre-start', 'post-stop']), exec: list(v.string()) })),
  v.check((given) => isUnique((given ?? []).map(({ name }) => name)), 'has an event twice'),
)
const AppSchema = v.object({
  exec: list(v.string()),
  user: v.pipe(v.string(), v.nonEmpty('is required')),
  group: v.pipe(v.string(), v.nonEmpty('is required')),
  supplementaryGIDs: list(v.pipe(v.number(), v.safeInteger())),
  workingDirectory: v.optional(
    v.pipe(
      v.string(),
      v.check((path) => path === '' || path.startsWith('/'), 'is not an absolute path'),
    ),
  ),
  environment,
  eventHandlers,
  mountPoints: list(v.object({ name: acName, path: v.pipe(v.string(), v.nonEmpty()) })),
  ports: list(port),
  // Loam uses none; only their names and values matter here.
  isolators: list(v.object({ name: identifier, value: v.unknown() })),
})
const annotations = v.pipe(
  pairs,
  v.check((given) => isUnique((given ?? []).map(({ name }) => name)), 'has an annotation twice'),
  v.check((given) => isDateOrAbsent(toLabels(given)['created']), 'has an invalid date in "created"'),
  v.check((given) => {
    const { homepage, documentation } = toLabels(given)
    return [homepage, documentation].every((url) => url === undefined || /^https?:/.test(url))
  }, 'has an address that is neither http nor https'),
)
const ManifestSchema = v.object({
  acKind: v.literal('ImageManifest'),
  acVersion: v.pipe(
    v.string(),
    v.regex(/^\d+\.\d+\.\d+(?:-[0-9A-Za-z.-]+)?(?:\+[0-9A-Za-z.-]+)?$/, 'is no version'),
    v.check((version) => !version.startsWith('0.0.0') || /[1-9A-Za-z]/.test(version), 'may not be zero'),
  ),
  name: identifier,
  labels,
  annotations,
  app: v.nullish(AppSchema),
  dependencies: list(
    v.object({
      imageName: identifier,
      imageID: v.nullish(hash),
      labels,
      size: v.optional(uint),
    }),
  ),
  pathWhitelist: list(v.string()),
})

const MesosPairs = list(v.object({ name: v.string(), value: v.string() }))
/** A manifest that Mesos accepts. Fields that Mesos does not read count if they are valid. */
const MesosManifestSchema = v.object({
  acKind: v.literal('ImageManifest'),
  acVersion: v.string(),
  name: identifier,
  labels: MesosPairs,
  annotations: MesosPairs,
  app: v.nullish(
    v.pipe(
      v.custom<object>((value) => typeof value === 'object' && !Array.isArray(value), 'is not an object'),
      v.object({
        exec: list(v.string()),
        user: v.fallback(v.nullish(v.string()), undefined),
        group: v.fallback(v.nullish(v.string()), undefined),
        workingDirectory: v.nullish(v.string()),
        environment: MesosPairs,
        mountPoints: v.fallback(list(v.object({ path: v.string() })), []),
        ports: v.fallback(list(v.object({ port: uint, protocol: v.optional(v.string(), '') })), []),
      }),
    ),
  ),
  dependencies: list(v.object({ imageName: v.string(), imageID: v.nullish(v.string()), labels: MesosPairs })),
  pathWhitelist: list(v.string()),
})
type ManifestValue = v.InferOutput<typeof MesosManifestSchema>

/** Parses an image manifest by the rules of the specification. @throws DOCUMENT_INVALID, with the field that is wrong */
export function parseAppcManifest(bytes: Uint8Array, what: string): AppcManifest {
  return toManifest(check(ManifestSchema, parseStrictJson(bytes, what), what))
}

/**
 * Reads an image manifest by the rules of Mesos. `breach` describes a violation of the specification; undefined if there is none.
 * @throws DOCUMENT_INVALID, with the field that is wrong
 */
export function readAppcManifest(
  bytes: Uint8Array,
  what: string,
): { readonly manifest: AppcManifest; readonly breach: string | undefined } {
  try {
    return { manifest: parseAppcManifest(bytes, what), breach: undefined }
  } catch (error) {
    if (!isLoamError(error, 'DOCUMENT_INVALID')) throw error
    const manifest = toManifest(check(MesosManifestSchema, parseStrictJson(bytes, what), what))
    return { manifest, breach: error.message }
  }
}

function toManifest(value: ManifestValue): AppcManifest {
  const { created } = toLabels(value.annotations)
  return {
    name: value.name,
    labels: toLabels(value.labels),
    // In an image config it has to be a date.
    created: isDateOrAbsent(created) ? created : undefined,
    dependencies: (value.dependencies ?? []).map((dependency) => ({
      name: dependency.imageName,
      id: dependency.imageID ?? undefined,
      labels: toLabels(dependency.labels),
    })),
    pathWhitelist: value.pathWhitelist ?? [],
    run: value.app === undefined || value.app === null ? undefined : toRunConfig(value.app),
  }
}

/**
 * The first word of `exec` is the entrypoint and the others are the command, so that a user's arguments replace the others: as in
 * Mesos for an image without arguments of its own in `exec`, and as Docker treats the two.
 */
function toRunConfig(app: NonNullable<ManifestValue['app']>): RunConfig {
  const [program, ...args] = app.exec ?? []
  return {
    user: [app.user, app.group].filter((id) => id !== undefined && id !== null && id !== '').join(':'),
    env: (app.environment ?? []).map(({ name, value }) => `${name}=${value}`),
    entrypoint: program === undefined ? [] : [program],
    cmd: args,
    workingDir: app.workingDirectory ?? '',
    stopSignal: undefined,
    volumes: (app.mountPoints ?? []).map(({ path }) => path),
    exposedPorts: (app.ports ?? []).map(
      ({ port: number, protocol }) => `${number}/${protocol === '' ? 'tcp' : protocol}`,
    ),
    labels: {},
  }
}

/** Returns whether a text is an image id that Loam can check, and that may be a part of a path. */
export function isAppcImageId(text: unknown): text is AppcImageId {
  return typeof text === 'string' && IMAGE_ID.test(text)
}

/** Returns the platform that labels name; missing ones are empty. */
export function appcPlatform({ os = '', arch = '' }: AppcLabels): Platform {
  const known = PLATFORMS.find(([appc]) => appc === arch)
  return known === undefined
    ? { os, architecture: arch, variant: undefined }
    : { os, architecture: known[1], variant: known[2] }
}

/** Returns the labels for a platform. @throws PLATFORM_INVALID for one that the specification does not have */
export function appcPlatformLabels({ os, architecture, variant }: Platform): { os: string; arch: string } {
  const sameArchitecture = PLATFORMS.filter(([, candidate]) => candidate === architecture)
  const known = sameArchitecture.find(([, , candidate]) => candidate === variant) ?? sameArchitecture[0]
  if (known === undefined) {
    throw new LoamError('PLATFORM_INVALID', `name ${os}/${architecture} by Appc labels: it has none`)
  }
  return { os, arch: known[0] }
}

/** Appc's name, and architecture and variant of OCI. */
const PLATFORMS: readonly (readonly [string, string, string | undefined])[] = [
  ['amd64', 'amd64', undefined],
  ['x86_64', 'amd64', undefined],
  ['i386', '386', undefined],
  ['aarch64', 'arm64', undefined],
  ['armv6l', 'arm', 'v6'],
  ['armv7l', 'arm', 'v7'],
  ['ppc64', 'ppc64', undefined],
  ['ppc64le', 'ppc64le', undefined],
  ['s390x', 's390x', undefined],
]

function isUnique(names: readonly string[]): boolean {
  return new Set(names).size === names.length
}

function toLabels(
  given: readonly { readonly name: string; readonly value: string }[] | null | undefined,
): AppcLabels {
  return Object.fromEntries((given ?? []).map(({ name, value }) => [name, value]))
}

function isKnownArchitecture({ os, arch }: AppcLabels): boolean {
  if (os === undefined) return true
  const known = Object.hasOwn(ARCHITECTURES, os) ? ARCHITECTURES[os] : undefined
  return known !== undefined && (arch === undefined || known.includes(arch))
}

function isDateOrAbsent(text: string | undefined): boolean {
  const date = /^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(?:\.\d+)?(?:Z|[+-]\d{2}:\d{2})$/
  return text === undefined || (date.test(text) && !Number.isNaN(Date.parse(text)))
}
