/*
 * Changes of files with credentials, as `docker login` and `podman login` make them: other entries and fields stay. A credential helper that the file
 * names gets the password; the file gets an empty entry then, as docker writes it. auth-file.ts describes the format.
 */
import { randomBytes } from 'node:crypto'
import {
  closeSync,
  constants,
  fchownSync,
  fsyncSync,
  lstatSync,
  mkdirSync,
  openSync,
  readlinkSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { basename, dirname, join, resolve } from 'node:path'
import { isErrno, LoamError, toLoamError } from '../errors/index.ts'
import { parseStrictJson } from '../image/index.ts'
import { readRegular } from '../linux/index.ts'
import { canonicalHost, DOCKER_HUB_SERVER, parseAuthFile, parseKey } from './auth-file.ts'
import { type HelperOptions, tellHelper } from './credential-helper.ts'

/** Far more than a configuration file has. */
const MAX_FILE_BYTES = 4 << 20

/** A registry, or a part of its repositories, that a user logs in to. */
export interface LoginTarget {
  /** Host and port. */
  readonly registry: string
  /** First parts of the names of its repositories; empty for all of them. */
  readonly path: string
}

/** Where a login was stored or removed. */
export interface LoginPlace {
  /** The file. */
  readonly file: string
  /** The credential helper that has the password; undefined if the file has it, unencrypted. */
  readonly helper: string | undefined
}

/** A user with a password. */
export interface Login {
  readonly username: string
  readonly password: string
}

type Json = Readonly<Record<string, unknown>>

/** Returns whether a file exists and has an entry or a helper for a registry. @throws CREDENTIALS_INVALID */
export function hasLogin(file: string, target: LoginTarget): boolean {
  const json = readFile(file)
  return (
    json !== undefined && (keysOf(json, 'auths', target).length > 0 || helperOf(json, target) !== undefined)
  )
}

/** Stores a login in a file, or in the helper that the file names. Creates the file, readable for its owner. @throws CREDENTIALS_INVALID, SYSTEM */
export async function storeLogin(
  file: string,
  target: LoginTarget,
  { username, password }: Login,
  options: Omit<HelperOptions, 'where'>,
): Promise<LoginPlace> {
  const json = readFile(file) ?? {}
  const helper = helperOf(json, target)
  const key = keyOf(file, target)
  if (helper !== undefined)
    await tellHelper(
      helper,
      'store',
      { ServerURL: key, Username: username, Secret: password },
      { ...options, where: file },
    )
  const auth = Buffer.from(`${username}:${password}`).toString('base64')
  const entry = helper === undefined ? { auth } : {}
  writeFile(file, { ...json, auths: { ...without(json, target), [key]: entry } })
  return { file, helper }
}

/** Removes a login from a file and its helper. Returns undefined if the file has none. @throws CREDENTIALS_INVALID, SYSTEM */
export async function eraseLogin(
  file: string,
  target: LoginTarget,
  options: Omit<HelperOptions, 'where'>,
): Promise<LoginPlace | undefined> {
  const json = readFile(file)
  if (json === undefined) return undefined
  const helper = helperOf(json, target)
  const keys = keysOf(json, 'auths', target)
  const isErased =
    helper !== undefined &&
    (await tellHelper(helper, 'erase', keyOf(file, target), { ...options, where: file, isMissingFine: true }))
  if (keys.length === 0 && !isErased) return undefined
  if (keys.length > 0) writeFile(file, { ...json, auths: without(json, target) })
  return { file, helper }
}

/** Lists what a file has logins for. @throws CREDENTIALS_INVALID */
export function listLogins(file: string): LoginTarget[] {
  const json = readFile(file)
  return json === undefined ? [] : Object.keys(objectOf(json['auths'])).map(targetOf)
}

function targetOf(key: string): LoginTarget {
  const { host, path } = parseKey(key)
  return { registry: host, path: path.join('/') }
}

/** docker writes the address of Docker Hub's API into its own file; podman reads both. */
function keyOf(file: string, { registry, path }: LoginTarget): string {
  if (path !== '') return `${registry}/${path}`
  return canonicalHost(registry) === 'docker.io' && basename(file) === 'config.json'
    ? DOCKER_HUB_SERVER
    : registry
}

function keysOf(json: Json, field: 'auths' | 'credHelpers', { registry, path }: LoginTarget): string[] {
  return Object.keys(objectOf(json[field])).filter((key) => {
    const found = parseKey(key)
    return found.host === canonicalHost(registry) && found.path.join('/') === path
  })
}

function helperOf(json: Json, target: LoginTarget): string | undefined {
  const [key] = keysOf(json, 'credHelpers', { ...target, path: '' })
  const name = key === undefined ? json['credsStore'] : objectOf(json['credHelpers'])[key]
  return typeof name === 'string' && name !== '' ? name : undefined
}

function without(json: Json, target: LoginTarget): Json {
  const removed = keysOf(json, 'auths', target)
  return Object.fromEntries(Object.entries(objectOf(json['auths'])).filter(([key]) => !removed.includes(key)))
}

function objectOf(value: unknown): Json {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Json) : {}
}

function readFile(file: string): Json | undefined {
  try {
    const bytes = readRegular(file, MAX_FILE_BYTES, 'CREDENTIALS_INVALID')
    // A file that is not valid is not overwritten.
    parseAuthFile(bytes, file)
    return bytes.toString('utf8').trim() === '' ? {} : objectOf(parseExactly(bytes, file))
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ENOTDIR')) return undefined
    throw toLoamError(error, `read ${file}`)
  }
}

/** Of ES2026; not declared by TypeScript yet. */
const sources = JSON as unknown as {
  parse(
    text: string,
    revive: (key: string, value: unknown, context: { readonly source?: string }) => unknown,
  ): unknown
  rawJSON(source: string): unknown
}

/** Parses JSON that is written again: numbers of other programs, of any size and form, stay what they are. @throws DOCUMENT_INVALID */
function parseExactly(bytes: Uint8Array, what: string): unknown {
  parseStrictJson(bytes, what)
  return sources.parse(new TextDecoder().decode(bytes), (_key, value, { source }) =>
    typeof value === 'number' && source !== undefined ? sources.rawJSON(source) : value,
  )
}

/** Replaces a file as a whole, so that a reader never gets half of it. A symlink stays, and its target is replaced. The owner stays. */
function writeFile(file: string, json: Json): void {
  try {
    const path = realPathOf(file)
    makeFolder(dirname(path))
    const unfinished = join(dirname(path), `.${basename(path)}.${randomBytes(6).toString('hex')}`)
    try {
      const owner = statSync(path, { throwIfNoEntry: false }) ?? statSync(dirname(path))
      withOpen(openSync(unfinished, 'wx', 0o600), (fd) => {
        giveTo(fd, owner)
        writeFileSync(fd, `${JSON.stringify(json, undefined, '\t')}\n`)
        fsyncSync(fd)
      })
      renameSync(unfinished, path)
    } catch (error) {
      rmSync(unfinished, { force: true })
      throw error
    }
  } catch (error) {
    throw toLoamError(error, `write ${file}`)
  }
}

/** Creates a directory, with those above it, for the owner of the first one that exists. */
function makeFolder(folder: string): void {
  if (statSync(folder, { throwIfNoEntry: false }) !== undefined) return
  makeFolder(dirname(folder))
  mkdirSync(folder, { mode: 0o700 })
  withOpen(openSync(folder, constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW), (fd) => {
    giveTo(fd, statSync(dirname(folder)))
  })
}

function withOpen(fd: number, act: (fd: number) => void): void {
  try {
    act(fd)
  } finally {
    closeSync(fd)
  }
}

/** Root may write into the home of a user, whose programs have to read the file afterwards. */
function giveTo(fd: number, { uid, gid }: { readonly uid: number; readonly gid: number }): void {
  if (process.geteuid?.() === 0 && uid !== 0) fchownSync(fd, uid, gid)
}

/** Follows links, also to a file that does not exist. @throws ELOOP */
function realPathOf(file: string): string {
  try {
    return realpathSync(file)
  } catch (error) {
    if (!isErrno(error, 'ENOENT')) throw error
  }
  const isLink = lstatSync(file, { throwIfNoEntry: false })?.isSymbolicLink() === true
  return isLink ? realPathOf(resolve(dirname(file), readlinkSync(file))) : file
}

/** Parses what a user logs in to: a host, an address of docker's, or a host with the first parts of a repository's name. @throws USAGE */
export function parseLoginTarget(text: string): LoginTarget {
  const target = targetOf(text)
  const isValid =
    /^(?:[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?|\[[0-9a-f:]+\])(?::\d{1,5})?$/.test(target.registry) &&
    /^(?:[a-z0-9][a-z0-9._-]*(?:\/[a-z0-9][a-z0-9._-]*)*)?$/.test(target.path)
  if (isValid) return target
  throw new LoamError('USAGE', `log in to ${JSON.stringify(text)}: it is not a registry`, {
    hint: 'Write HOST[:PORT], for example ghcr.io or registry.lan:5000.',
  })
}
