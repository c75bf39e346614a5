import { realpathSync } from 'node:fs'
import { join } from 'node:path'
import { LoamError } from '../errors/index.ts'
import {
  type CredentialSource,
  credentialsFromConfig,
  credentialsFromFiles,
  FileClient,
  type FileClientOptions,
  type ProxyOptions,
  RegistryClient,
} from '../registry/index.ts'
import type { ImageOptions } from './requests.ts'
import type { Settings } from './settings.ts'

type Environment = Readonly<Record<string, string | undefined>>

/** Makes the client of registries for one request: what the request says comes before what is configured. */
export function makeRegistryClient(
  values: Settings,
  env: Environment,
  options: ImageOptions,
): RegistryClient {
  const credentials = options.credentials ?? findCredentials(values, env, options.authFile)
  return new RegistryClient({
    ...networkOptions(values, env, options),
    credentials,
    manifestBytes: values.limit_manifest_bytes,
  })
}

/** Makes the client of other web servers for one request. */
export function makeFileClient(values: Settings, env: Environment, options: ImageOptions): FileClient {
  return new FileClient(networkOptions(values, env, options))
}

function networkOptions(values: Settings, env: Environment, options: ImageOptions): FileClientOptions {
  return {
    insecure: [...(options.insecure ?? []), ...values.insecure_registries],
    certsDirs: [...(options.certsDir === undefined ? [] : [options.certsDir]), ...values.certs_dirs],
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

/** Source: httpproxy.FromEnvironment: capitals first, and empty is unset. */
function proxiesOf(env: Environment): ProxyOptions {
  const variable = (name: string) => [env[name], env[name.toLowerCase()]].find((value) => value) ?? ''
  // A CGI program gets HTTP_PROXY from whoever asks it, by the header Proxy (golang.org/s/cgihttpproxy); curl never reads it in capitals.
  const isCgi = env['REQUEST_METHOD'] !== undefined
  return {
    httpProxy: isCgi ? (env['http_proxy'] ?? '') : variable('HTTP_PROXY'),
    httpsProxy: variable('HTTPS_PROXY'),
    noProxy: variable('NO_PROXY'),
  }
}

function findCredentials(values: Settings, env: Environment, authFile: string | undefined): CredentialSource {
  if (authFile !== undefined) return credentialsFromFiles([requireFile(authFile)])
  const { docker_config: configured } = values
  if (configured !== undefined) {
    return configured.trimStart().startsWith('{')
      ? credentialsFromConfig(configured)
      : credentialsFromFiles([configured.replace(/^file:\/\//, '')])
  }
  const file = (folder: string | undefined, ...rest: string[]) =>
    folder === undefined || folder === '' ? [] : [join(folder, ...rest)]
  return credentialsFromFiles([
    ...file(env['REGISTRY_AUTH_FILE']),
    ...file(env['DOCKER_CONFIG'], 'config.json'),
    ...file(env['HOME'], '.docker', 'config.json'),
    ...file(env['XDG_RUNTIME_DIR'], 'containers', 'auth.json'),
  ])
}

/** A file that was named and is not there is a mistake, not an anonymous user. */
function requireFile(path: string): string {
  try {
    return realpathSync(path)
  } catch (error) {
    throw new LoamError('CREDENTIALS_INVALID', `read ${path}: it cannot be opened`, { cause: error })
  }
}
