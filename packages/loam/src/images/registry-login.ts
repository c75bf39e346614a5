import { existsSync } from 'node:fs'
import { basename, resolve } from 'node:path'
import type { Settings } from '../config/index.ts'
import { keepSecret, LoamError } from '../errors/index.ts'
import {
  credentialsOfUser,
  eraseLogin,
  hasLogin,
  helperEnvironment,
  listLogins,
  type Login,
  type LoginPlace,
  type LoginTarget,
  storeLogin,
} from '../registry/index.ts'
import { authFilePaths, type Caller, createRegistryClient, findCredentials } from './registry-access.ts'
import type { FetchOptions } from './requests.ts'

/** A user who logs in or out: the settings, the process of the caller, and the options of the call. */
export interface LoginContext {
  readonly values: Settings
  readonly caller: Caller
  readonly options: FetchOptions
}

/** The result of a login. */
export interface LoggedIn extends LoginPlace {
  /** Whether the registry asked for the login; without that the password was not verified. */
  readonly isVerified: boolean
}

/** Returns the name of the user that is logged in; undefined if none is, or only a token is known. @throws CREDENTIALS_INVALID */
export async function findUser(
  { values, caller, options }: LoginContext,
  { registry, path }: LoginTarget,
): Promise<Login | undefined> {
  const source = findCredentials(values, caller, existing(options.authFile, caller))
  const found = await source.find(registry, {
    signal: options.signal,
    repository: path === '' ? undefined : path,
  })
  if (found?.kind === 'unavailable') throw found.reason
  return found?.kind === 'password' ? { username: found.username, password: found.password } : undefined
}

/** A file that a login creates need not exist before. */
function existing(authFile: string | undefined, { cwd }: Caller): string | undefined {
  return authFile !== undefined && existsSync(resolve(cwd, authFile)) ? authFile : undefined
}

/**
 * Verifies a login at its registry, and stores it in the file where Loam, docker and podman find it, or in the helper that this file names.
 * @throws REGISTRY_UNAUTHORIZED if it is wrong, then nothing is stored; CREDENTIALS_INVALID
 */
export async function logIn(context: LoginContext, target: LoginTarget, login: Login): Promise<LoggedIn> {
  const { values, caller, options } = context
  const { username, password } = login
  keepSecret(password)
  // Fails before the password is sent if there is no place for it.
  const file = fileFor(context, target)
  const all = credentialsOfUser(username, password)
  // A server on another host has logins of its own.
  const credentials = all.for?.(target.registry) ?? all
  await using client = createRegistryClient(values, caller, { ...options, credentials })
  const isVerified = await client.checkLogin(target.registry, options.signal)
  const env = helperEnvironment(caller.env, values.credential_helper_env)
  const place = await storeLogin(file, target, login, { env, signal: options.signal })
  return { ...place, isVerified }
}

/** Removes logins from all files in which Loam looks for them. Returns where there were any. @throws CREDENTIALS_INVALID */
export async function logOut(context: LoginContext, target: LoginTarget | 'all'): Promise<LoginPlace[]> {
  const { values, caller, options } = context
  const env = helperEnvironment(caller.env, values.credential_helper_env)
  const removed: LoginPlace[] = []
  for (const file of filesOf(context)) {
    for (const each of target === 'all' ? listLogins(file) : [target]) {
      const place = await eraseLogin(file, each, { env, signal: options.signal })
      if (place !== undefined) removed.push(place)
    }
  }
  return removed
}

/** Returns the files in which Loam looks for logins, in the order of precedence. */
function filesOf({ values, caller, options }: LoginContext): string[] {
  const { cwd, userId, env } = caller
  if (options.authFile !== undefined) return [resolve(cwd, options.authFile)]
  const { docker_config: configured } = values
  if (configured === undefined) {
    const paths = authFilePaths(userId, env).map((path) => resolve(cwd, path))
    // The format before config.json is only read.
    return [...new Set(paths)].filter((path) => basename(path) !== '.dockercfg')
  }
  if (!configured.trimStart().startsWith('{')) return [resolve(cwd, configured.replace(/^file:\/\//, ''))]
  throw new LoamError('CONFIG_INVALID', 'docker_config: it has the credentials themselves, and no file', {
    hint: 'Name a file with --authfile.',
  })
}

/** A login replaces the one that is found first; else it goes into the first file that exists, else into docker's. */
function fileFor(context: LoginContext, target: LoginTarget): string {
  const files = filesOf(context)
  const named = context.caller.env['REGISTRY_AUTH_FILE']
  const isNamed = named !== undefined && named !== ''
  const found =
    files.find((file) => hasLogin(file, target)) ??
    (isNamed ? files[0] : files.find((file) => existsSync(file))) ??
    files.at(-1)
  if (found !== undefined) return found
  throw new LoamError('CREDENTIALS_INVALID', 'store the login: no home directory is known', {
    hint: 'Name a file with --authfile, or set HOME.',
  })
}
