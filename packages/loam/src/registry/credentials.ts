/*
 * Credentials in the places where people have them: Docker's config.json.
 *
 *   { "auths": { "host": { "auth": base64("user:password") | "username", "password" | "identitytoken" | "registrytoken" } },
 *     "credHelpers": { "host": "name" }, "credsStore": "name" }
 *
 * A helper is the program docker-credential-<name>, asked by `get` with the host on its standard input.
 */
import { readFileSync } from 'node:fs'
import * as v from 'valibot'
import { isErrno, LoamError, toLoamError } from '../errors/index.ts'
import { check, parseStrictJson } from '../image/index.ts'
import { runProgram } from '../linux/index.ts'

/** How to say who one is at one host. */
export type Credential =
  | { readonly kind: 'password'; readonly username: string; readonly password: string }
  /** Exchanged for access tokens (OAuth 2 refresh token). */
  | { readonly kind: 'identity-token'; readonly token: string }
  /** Sent as it is. */
  | { readonly kind: 'registry-token'; readonly token: string }

/** Finds the credential for a host with its port; undefined means to be anonymous. */
export interface CredentialSource {
  readonly find: (registry: string, signal?: AbortSignal) => Promise<Credential | undefined>
}

const text = v.nullish(v.string())
const AuthSchema = v.object({
  auth: text,
  username: text,
  password: text,
  identitytoken: text,
  registrytoken: text,
})
const ConfigSchema = v.object({
  auths: v.nullish(v.record(v.string(), AuthSchema)),
  credHelpers: v.nullish(v.record(v.string(), v.string())),
  credsStore: text,
})
/** Before there was config.json, .dockercfg held what is under `auths` now. */
const OldConfigSchema = v.record(v.string(), AuthSchema)

type DockerConfig = v.InferOutput<typeof ConfigSchema>

const DOCKER_HUB_HOSTS: readonly string[] = ['docker.io', 'index.docker.io', 'registry-1.docker.io']
const DOCKER_HUB_KEY = 'https://index.docker.io/v1/'
const HELPER_TIMEOUT_MS = 30_000

/** Reads credentials from the text of a config.json; for a request that brings its own. @throws CREDENTIALS_INVALID */
export function credentialsFromConfig(json: string, what = 'docker config'): CredentialSource {
  const config = parseConfig(Buffer.from(json), what)
  return {
    find: async (registry, signal) => findInConfig(config, registry, signal),
  }
}

/** Reads credentials from config.json files; the first that is there counts, and it is read when the first one is wanted. */
export function credentialsFromFiles(paths: readonly string[]): CredentialSource {
  let config: DockerConfig | undefined
  return {
    find: async (registry, signal) => {
      config ??= readFirst(paths)
      return findInConfig(config, registry, signal)
    },
  }
}

/** Always the same user, whatever the registry. For one request that names its registry. */
export function credentialsOfUser(username: string, password: string): CredentialSource {
  return { find: async () => ({ kind: 'password', username, password }) }
}

/** Asks one source after the other. */
export function firstCredentials(sources: readonly CredentialSource[]): CredentialSource {
  return {
    find: async (registry, signal) => {
      for (const source of sources) {
        const credential = await source.find(registry, signal)
        if (credential !== undefined) return credential
      }
      return undefined
    },
  }
}

function readFirst(paths: readonly string[]): DockerConfig {
  for (const path of paths) {
    try {
      return parseConfig(readFileSync(path), path)
    } catch (error) {
      if (!isErrno(error, 'ENOENT', 'ENOTDIR')) throw toLoamError(error, `read ${path}`)
    }
  }
  return {}
}

function parseConfig(bytes: Uint8Array, what: string): DockerConfig {
  try {
    const value = parseStrictJson(bytes, what)
    const isNew =
      typeof value === 'object' &&
      value !== null &&
      /auths|credsStore|credHelpers/.test(Object.keys(value).join())
    if (isNew) return check(ConfigSchema, value, what)
    const old = v.safeParse(OldConfigSchema, value)
    return old.success ? { auths: old.output } : check(ConfigSchema, value, what)
  } catch (error) {
    throw new LoamError('CREDENTIALS_INVALID', `read ${what}: it is no Docker configuration`, {
      cause: error,
      hint: '`docker login` or `podman login --authfile FILE` writes such a file.',
    })
  }
}

async function findInConfig(
  config: DockerConfig,
  registry: string,
  signal: AbortSignal | undefined,
): Promise<Credential | undefined> {
  const isHub = DOCKER_HUB_HOSTS.includes(registry)
  const isFor = (key: string) =>
    isHub ? DOCKER_HUB_HOSTS.includes(hostOfKey(key)) : hostOfKey(key) === registry
  const ownHelper = Object.entries(config.credHelpers ?? {}).find(([key]) => isFor(key))?.[1]
  const helper = ownHelper ?? config.credsStore ?? undefined
  if (helper !== undefined && helper !== '') {
    const found = await askHelper(helper, isHub ? DOCKER_HUB_KEY : registry, signal)
    if (found !== undefined) return found
  }
  const [, auth] = Object.entries(config.auths ?? {}).find(([key]) => isFor(key)) ?? []
  return auth === undefined ? undefined : toCredential(auth, registry)
}

/** Keys are hosts, and for historical reasons whole URLs. */
function hostOfKey(key: string): string {
  return key.replace(/^https?:\/\//, '').split('/')[0] ?? key
}

function toCredential(auth: v.InferOutput<typeof AuthSchema>, registry: string): Credential | undefined {
  if (isText(auth.registrytoken)) return { kind: 'registry-token', token: auth.registrytoken }
  if (isText(auth.identitytoken)) return { kind: 'identity-token', token: auth.identitytoken }
  if (isText(auth.auth)) {
    const decoded = Buffer.from(auth.auth, 'base64').toString('utf8').replace(/\0+$/, '')
    const colon = decoded.indexOf(':')
    if (colon < 0) {
      throw new LoamError(
        'CREDENTIALS_INVALID',
        `read credentials for ${registry}: "auth" is not base64 of user:password`,
      )
    }
    return {
      kind: 'password',
      username: decoded.slice(0, colon),
      password: decoded.slice(colon + 1),
    }
  }
  if (isText(auth.username))
    return { kind: 'password', username: auth.username, password: auth.password ?? '' }
  return undefined
}

function isText(value: string | null | undefined): value is string {
  return value !== undefined && value !== null && value !== ''
}

const AnswerSchema = v.object({ Username: v.string(), Secret: v.string() })

async function askHelper(
  name: string,
  server: string,
  signal?: AbortSignal,
): Promise<Credential | undefined> {
  if (!/^[A-Za-z0-9_.-]+$/.test(name)) {
    throw new LoamError(
      'CREDENTIALS_INVALID',
      `ask credential helper ${JSON.stringify(name)}: that is no program's name`,
    )
  }
  const program = `docker-credential-${name}`
  const { status, stdout } = await runProgram(program, ['get'], {
    input: server,
    timeoutMs: HELPER_TIMEOUT_MS,
    signal,
  })
  if (status !== 0) {
    if (/not found/i.test(stdout)) return undefined
    throw new LoamError(
      'CREDENTIALS_INVALID',
      `ask ${program} for ${server}: it ended with status ${status}`,
      {
        hint: `Try: echo ${server} | ${program} get`,
      },
    )
  }
  const { Username, Secret } = check(AnswerSchema, parseStrictJson(Buffer.from(stdout), program), program)
  return Username === '<token>'
    ? { kind: 'identity-token', token: Secret }
    : { kind: 'password', username: Username, password: Secret }
}
