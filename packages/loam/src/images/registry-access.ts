import { existsSync, realpathSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { isErrno, LoamError, toLoamError } from '../errors/index.ts'
import {
  type CredentialSource,
  CredentialProviders,
  credentialsFromConfig,
  credentialsFromFiles,
  helperEnvironment,
  firstCredentials,
  FileClient,
  type FileClientOptions,
  type ProxyOptions,
  RegistryClient,
} from '../registry/index.ts'
import { readInput } from '../linux/index.ts'
import type { ImageOptions } from './requests.ts'
import type { Settings } from '../config/index.ts'

type Environment = Readonly<Record<string, string | undefined>>

/** The caller of a request: its environment and directory, where settings and files are looked up. */
export interface Caller {
  readonly userId: number
  readonly env: Environment
  /** Directory that relative paths start from; '' for that of this process. */
  readonly cwd: string
  /** Credential providers; undefined if none are configured. */
  readonly providers?: CredentialSource | undefined
}

/** Creates the client of registries for one request: the request's options take precedence over the settings. */
export function createRegistryClient(
  values: Settings,
  caller: Caller,
  options: ImageOptions,
): RegistryClient {
  const { certsDir, onEvent } = options
  // As in skopeo and podman a missing directory is not an error: a host may need none of its files.
  if (certsDir !== undefined && !existsSync(resolve(caller.cwd, certsDir)))
    onEvent?.({ kind: 'note', text: `the directory of certificates ${certsDir} does not exist` })
  const credentials = options.credentials ?? findCredentials(values, caller, options.authFile)
  return new RegistryClient({
    ...networkOptions(values, caller, options),
    credentials,
    manifestBytes: values.limit_manifest_bytes,
  })
}

/** Returns the options of a request for one registry: a password in the request is sent only to its own registry. */
export function forRegistry<T extends ImageOptions>(options: T, registry: string): T {
  const own = options.credentials?.for?.(registry)
  return own === undefined ? options : { ...options, credentials: own }
}

/** Creates the kubelet's credential providers that the settings name; undefined for none. @throws CONFIG_INVALID for a configuration without programs */
export function createProviders(values: Settings, env: Environment): CredentialProviders | undefined {
  const { image_credential_provider_config: config, image_credential_provider_bin_dir: binDir } = values
  if (config === undefined) return undefined
  if (binDir === undefined)
    throw new LoamError(
      'CONFIG_INVALID',
      'image_credential_provider_config: its programs have no directory',
      {
        hint: 'Set image_credential_provider_bin_dir.',
      },
    )
  return new CredentialProviders({
    config,
    binDir,
    env: helperEnvironment(env, values.credential_helper_env),
  })
}

/** Creates the client of other web servers for one request. */
export function createFileClient(values: Settings, caller: Caller, options: ImageOptions): FileClient {
  return new FileClient(networkOptions(values, caller, options))
}

function networkOptions(values: Settings, { env, cwd }: Caller, options: ImageOptions): FileClientOptions {
  const certsDirs = [...(options.certsDir === undefined ? [] : [options.certsDir]), ...values.certs_dirs]
  return {
    insecure: [...(options.insecure ?? []), ...values.insecure_registries],
    privateTokenServers: values.private_token_servers,
    privateRedirects: values.private_redirects,
    certsDirs: certsDirs.map((directory) => resolve(cwd, directory)),
    proxy: proxiesOf(env),
    stallTimeoutMs: values.fetcher_stall_timeout,
    connectTimeoutMs: values.connect_timeout,
    retry: {
      tries: values.registry_tries,
      baseMs: 250,
      waitMs: values.registry_retry_time,
      onWait: (wait) => options.onEvent?.({ kind: 'retry', ...wait }),
    },
  }
}

/** Source: httpproxy.FromEnvironment: capitals first, and empty counts as unset. */
function proxiesOf(env: Environment): ProxyOptions {
  const variable = (name: string) => [env[name], env[name.toLowerCase()]].find((value) => value) ?? ''
  // A client of a CGI program sets HTTP_PROXY by the header Proxy (golang.org/s/cgihttpproxy); curl never reads it in capitals.
  const isCgi = env['REQUEST_METHOD'] !== undefined
  return {
    httpProxy: isCgi ? (env['http_proxy'] ?? '') : variable('HTTP_PROXY'),
    httpsProxy: variable('HTTPS_PROXY'),
    noProxy: variable('NO_PROXY'),
  }
}

/** Returns the credentials of the settings and of the caller's files, or those of one file. @throws CREDENTIALS_INVALID */
export function findCredentials(
  values: Settings,
  { userId, env, cwd, providers }: Caller,
  authFile: string | undefined,
): CredentialSource {
  const helperEnv = helperEnvironment(env, values.credential_helper_env)
  if (authFile !== undefined) return credentialsFromFiles([requireFile(authFile, cwd)], helperEnv, readInput)
  const { docker_config: configured } = values
  const withProviders = (files: CredentialSource) =>
    providers === undefined ? files : firstCredentials([files, providers])
  if (configured !== undefined) {
    const given = configured.trimStart().startsWith('{')
      ? credentialsFromConfig(configured, undefined, helperEnv)
      : credentialsFromFiles([resolve(cwd, configured.replace(/^file:\/\//, ''))], helperEnv)
    return withProviders(given)
  }
  const paths = authFilePaths(userId, env).map((path) => resolve(cwd, path))
  return withProviders(credentialsFromFiles(paths, helperEnv))
}

/**
 * Files that `docker login` and `podman login` write, in the order of containers/image's pkg/docker/config (getAuthFilePaths). Without
 * XDG_RUNTIME_DIR (sudo, cron) podman's is in /run/containers. DOCKER_CONFIG replaces ~/.docker, as in docker.
 */
export function authFilePaths(userId: number, env: Environment): string[] {
  const below = (folder: string | undefined, ...rest: string[]) => (folder ? [join(folder, ...rest)] : [])
  const home = env['HOME']
  return [
    ...below(env['REGISTRY_AUTH_FILE']),
    ...below(env['XDG_RUNTIME_DIR'], 'containers', 'auth.json'),
    `/run/containers/${userId}/auth.json`,
    ...(env['XDG_CONFIG_HOME']
      ? below(env['XDG_CONFIG_HOME'], 'containers', 'auth.json')
      : below(home, '.config', 'containers', 'auth.json')),
    ...(env['DOCKER_CONFIG']
      ? below(env['DOCKER_CONFIG'], 'config.json')
      : below(home, '.docker', 'config.json')),
    ...below(home, '.dockercfg'),
  ]
}

/** A named file that does not exist is a mistake, and does not mean an anonymous user. */
function requireFile(path: string, cwd: string): string {
  try {
    return realpathSync(resolve(cwd, path))
  } catch (error) {
    const why = isErrno(error, 'ENOENT', 'ENOTDIR') ? 'no such file' : toLoamError(error, path).message
    throw new LoamError('CREDENTIALS_INVALID', `read ${path}: ${why}`, {
      cause: error,
      hint: 'Create one with `loam login --authfile FILE`, `docker login` or `podman login`.',
    })
  }
}
