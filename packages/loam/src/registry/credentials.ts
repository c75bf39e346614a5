import { isErrno, toLoamError } from '../errors/index.ts'
import { readRegular } from '../linux/index.ts'
import { type AuthFile, findInAuthFile, parseAuthFile } from './auth-file.ts'
import type { Credential } from './credential.ts'
import { type HelperEnvironment, helperEnvironment } from './credential-helper.ts'

/** Far more than a configuration file has. */
const MAX_FILE_BYTES = 4 << 20

type ReadFile = typeof readRegular

/** Options of a search for a credential. */
export interface FindCredentialOptions {
  /** Repository in the registry. Undefined: the registry itself. */
  readonly repository?: string | undefined
  /** Cancels the search. */
  readonly signal?: AbortSignal | undefined
}

/**
 * Finds the credential for a registry, by host and port, and for one of its repositories. Undefined means anonymous. A credential for one repository
 * is used for no other.
 */
export interface CredentialSource {
  /** Called for each new connection or token. A rejection fails the request. */
  readonly find: (registry: string, options?: FindCredentialOptions) => Promise<Credential | undefined>
  /** For a source with one answer for all registries: returns its answer for the registry of a request. Undefined: the answers differ. */
  readonly for?: (registry: string) => CredentialSource
}

/**
 * Reads credentials from the text of a config.json, for a request with its own credentials. `env` is the environment of the
 * credential helpers that it names; default: the variables of this process that they need. @throws CREDENTIALS_INVALID
 */
export function credentialsFromConfig(
  json: string,
  what = 'docker config',
  env: HelperEnvironment = helperEnvironment(process.env),
): CredentialSource {
  const file = parseAuthFile(Buffer.from(json), what)
  return {
    find: async (registry, { signal, repository } = {}) =>
      findInAuthFile(file, { registry, repository }, { where: what, env, signal }),
  }
}

/**
 * Reads credentials from files in Docker's or podman's format, one after the other. Each is read once, when it is needed; `env` as for
 * `credentialsFromConfig`. `read` is `readInput` for files that a caller names.
 */
export function credentialsFromFiles(
  paths: readonly string[],
  env: HelperEnvironment = helperEnvironment(process.env),
  read: ReadFile = readRegular,
): CredentialSource {
  return firstCredentials([...new Set(paths)].map((path) => credentialsFromFile(path, env, read)))
}

function credentialsFromFile(path: string, env: HelperEnvironment, read: ReadFile): CredentialSource {
  let file: AuthFile | undefined
  return {
    find: async (registry, { signal, repository } = {}) => {
      file ??= readAuthFile(path, read)
      return findInAuthFile(file, { registry, repository }, { where: path, env, signal })
    },
  }
}

/** Creates a source with one user. A request uses it for the registry that it names, and not for mirrors of that registry. */
export function credentialsOfUser(username: string, password: string): CredentialSource {
  const find: CredentialSource['find'] = async () => ({ kind: 'password', username, password })
  const ofOne = (named: string): CredentialSource => ({
    find: async (registry) => (registry === named ? find(registry) : undefined),
  })
  return { find, for: ofOne }
}

/** Asks one source after the other. */
export function firstCredentials(sources: readonly CredentialSource[]): CredentialSource {
  const isForOne = sources.some(({ for: of }) => of !== undefined)
  const ofOne = (registry: string) =>
    firstCredentials(sources.map((source) => source.for?.(registry) ?? source))
  return {
    ...(isForOne ? { for: ofOne } : {}),
    find: async (registry, options) => {
      let unavailable: Credential | undefined
      for (const source of sources) {
        const credential = await source.find(registry, options)
        if (credential?.kind === 'unavailable') unavailable ??= credential
        else if (credential !== undefined) return credential
      }
      return unavailable
    },
  }
}

function readAuthFile(path: string, read: ReadFile): AuthFile {
  try {
    return parseAuthFile(read(path, MAX_FILE_BYTES, 'CREDENTIALS_INVALID'), path)
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ENOTDIR')) return {}
    throw toLoamError(error, `read ${path}`)
  }
}
