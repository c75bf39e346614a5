import { existsSync, realpathSync, type Stats, statSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { isLoamError, LoamError } from '../errors/index.ts'
import {
  type AppcName,
  type FileTransport,
  formatAppcName,
  formatReference,
  type ImageReference,
  isDigest,
  parseAppcName,
  parseReference,
  type Platform,
  splitTransport,
  storedReference,
  type StoredReference,
} from '../image/index.ts'
import { distinctLocations, fileLocation, type ImageLocation, registryLocation } from '../policy/index.ts'
import { MAX_PATH_BYTES } from '../tree/index.ts'
import type { AskedFor } from './image-source.ts'
import { holdsPassword, isAddress, withoutQuery } from './remote-file.ts'

/** The location of an image in a user's notation: with a transport of skopeo and podman, as an Appc name, or as a bare reference. */
export type ImageName =
  | { readonly transport: 'docker'; readonly reference: ImageReference }
  | {
      readonly transport: 'oci' | 'docker-archive'
      /** Absolute. */
      readonly path: string
      /** Tag or digest in the layout, or reference in the archive; undefined for the only one. */
      readonly selector: string | undefined
    }
  | {
      readonly transport: 'aci'
      /** Absolute, or an address. */
      readonly path: string
    }
  | { readonly transport: 'appc'; readonly appc: AppcName }

/** Defaults for the missing parts of a name. */
export interface NameDefaults {
  /** Registry of a reference without a host. */
  readonly registry: string
  /** Platform of an Appc name without os or arch. */
  readonly platform: Platform
  /** Directory that relative paths start from; undefined or '' for that of this process. */
  readonly cwd?: string | undefined
  /** Environment of the credential helpers that an image request names; undefined for that of this process. */
  readonly env?: Readonly<Record<string, string | undefined>> | undefined
}

const MAX_LENGTH = 8192
const HINT =
  'Write REF, docker://REF, oci:DIR[:TAG], oci-archive:FILE[:TAG], docker-archive:FILE[:REF], aci:FILE or appc://NAME[,LABEL=VALUE…].'

function invalidName(text: string): (why: string) => LoamError {
  return (why) =>
    new LoamError('SOURCE_INVALID', `parse image name ${JSON.stringify(text.slice(0, MAX_LENGTH))}: ${why}`, {
      hint: HINT,
    })
}

/** Parses the name of an image as a user writes it. @throws SOURCE_INVALID, REFERENCE_INVALID */
export function parseImageName(text: string, defaults: NameDefaults): ImageName {
  const invalid = invalidName(text)
  if (text.length > MAX_LENGTH) throw invalid(`it is longer than ${MAX_LENGTH} characters`)
  const { kind, transport, rest = '' } = splitTransport(text, 'name', 'file', 'foreign') ?? {}
  if (kind === 'foreign') throw invalid(`the transport ${transport} is not supported`)
  // `docker:20`, `appc:2` and `oci:1.0` are references; a transport of names is recognized by its slashes.
  if (transport === undefined || (kind === 'name' && !rest.startsWith('//')))
    return parseBareName(text, defaults)
  if (transport === 'docker') {
    return { transport, reference: parseReference(text.slice('docker://'.length), defaults.registry) }
  }
  if (transport === 'appc') return { transport, appc: parseAppcName(text, defaults.platform) }
  return parseFile({ transport, rest, cwd: defaults.cwd ?? '' }, invalid)
}

/** A name without a transport is one of a registry. @throws REFERENCE_INVALID, with a hint for a path of this machine */
function parseBareName(text: string, { registry, cwd = '' }: NameDefaults): ImageName {
  try {
    return { transport: 'docker', reference: parseReference(text, registry) }
  } catch (error) {
    if (!isLoamError(error, 'REFERENCE_INVALID') || !/^[./]|\/$|\.(?:tar|aci)$/.test(text)) throw error
    const hint = hintForPath(text, resolve(cwd, text))
    throw new LoamError('REFERENCE_INVALID', error.message, { hint, cause: error })
  }
}

function hintForPath(text: string, path: string): string {
  const found = lookAt(path)
  if (found === undefined)
    return `There is no file ${text}. Write oci:DIRECTORY, oci-archive:FILE or docker-archive:FILE for an image in a file.`
  if (text.endsWith('.aci')) return `Did you mean aci:${text}?`
  if (!found.isDirectory()) return `Did you mean docker-archive:${text} or oci-archive:${text}?`
  return existsSync(join(path, 'oci-layout'))
    ? `Did you mean oci:${text}?`
    : `${text} is a directory without an OCI layout. \`loam put\` imports directories of other formats.`
}

/** Text that cannot be a path, and a path that cannot be reached, are as one that does not exist: the result is only for a hint. */
function lookAt(path: string): Stats | undefined {
  try {
    return statSync(path)
  } catch {
    return undefined
  }
}

/**
 * Parses the name of an image in a file or folder, with its transport; undefined if there is no transport, or if a file with the
 * whole text as its name exists. @throws SOURCE_INVALID
 */
export function parseFileName(text: string, cwd: string): ImageName | undefined {
  const file = splitTransport(text, 'file')
  if (file === undefined || text.length > MAX_LENGTH || existsSync(resolve(cwd, text))) return undefined
  return parseFile({ ...file, cwd }, invalidName(text))
}

interface FileName {
  readonly transport: string
  /** The rest after the transport. */
  readonly rest: string
  readonly cwd: string
}

function parseFile({ transport, rest, cwd }: FileName, invalid: (why: string) => LoamError): ImageName {
  if (rest === '') throw invalid('it names no path')
  if (holdsPassword(rest)) throw invalid('it contains a password; Loam does not log in to web servers')
  if (transport === 'aci')
    return { transport, path: /^(?:https?|hdfs):\/\//.test(rest) ? rest : resolve(cwd, rest) }
  const { path, selector } = splitPath(rest, cwd)
  if (path === '') throw invalid('it names no path')
  return {
    transport: transport === 'docker-archive' ? 'docker-archive' : 'oci',
    path: resolve(cwd, path),
    selector: selector === '' ? undefined : selector,
  }
}

/** Both a path and a tag may hold colons: the longest part that exists is the path. */
function splitPath(rest: string, cwd: string): { path: string; selector: string | undefined } {
  if (existsSync(resolve(cwd, rest))) return { path: rest, selector: undefined }
  const digest = /^(.*)@((?:sha256|sha512):[0-9a-f]+)$/s.exec(rest)
  if (digest !== null) return { path: digest[1] ?? '', selector: digest[2] }
  for (
    let colon = rest.lastIndexOf(':', MAX_PATH_BYTES);
    colon > 0;
    colon = rest.lastIndexOf(':', colon - 1)
  ) {
    if (existsSync(resolve(cwd, rest.slice(0, colon))))
      return { path: rest.slice(0, colon), selector: rest.slice(colon + 1) }
  }
  const first = rest.indexOf(':')
  return first < 0
    ? { path: rest, selector: undefined }
    : { path: rest.slice(0, first), selector: rest.slice(first + 1) }
}

/** Returns the name under which the store keeps the image: the same for all spellings. */
export function formatImageName(name: ImageName): StoredReference {
  switch (name.transport) {
    case 'docker':
      return formatReference(name.reference)
    case 'appc':
      return formatAppcName(name.appc)
    case 'aci':
      return aciName(name.path)
    case 'oci':
    case 'docker-archive': {
      const { transport, path, selector } = name
      if (selector === undefined) return storedReference(`${transport}:${path}`)
      return storedReference(`${transport}:${path}${isDigest(selector) ? '@' : ':'}${selector}`)
    }
  }
}

/** Returns the name of an ACI by its path or address. */
export function aciName(address: string): StoredReference {
  return storedReference(`aci:${isAddress(address) ? withoutQuery(address) : address}`)
}

/** Returns the locations and the digest that a signature policy evaluates for a name. */
export function askedBy(name: ImageName): AskedFor {
  switch (name.transport) {
    case 'docker':
      return { locations: [registryLocation(name.reference)], pin: name.reference.digest }
    case 'appc':
      return { locations: [{ kind: 'appc', name: name.appc.name }], pin: name.appc.id }
    case 'aci':
      return { locations: fileLocations('aci', name.path), pin: undefined }
    case 'oci':
    case 'docker-archive':
      return {
        locations: fileLocations(name.transport, name.path),
        pin: isDigest(name.selector) ? name.selector : undefined,
      }
  }
}

/** Returns the locations of a file: by the given path, and by the path without symlinks. */
export function fileLocations(transport: Exclude<FileTransport, 'commit'>, path: string): ImageLocation[] {
  const given = fileLocation(transport, isAddress(path) ? withoutQuery(path) : path)
  try {
    return distinctLocations([given, fileLocation(transport, realpathSync(path))])
  } catch {
    // It does not exist, or is not a path: opening it reports that.
    return [given]
  }
}
