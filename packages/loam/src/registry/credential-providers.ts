/*
 * Credential provider plugins of the kubelet: a program reads a CredentialProviderRequest from its standard input, and writes a
 * CredentialProviderResponse.
 * Source: Kubernetes' credentialprovider.kubelet.k8s.io/v1 and pkg/credentialprovider/plugin.
 */
import { join } from 'node:path'
import * as v from 'valibot'
import { SingleFlight } from '../content/index.ts'
import { isLoamError, keepSecret, LoamError, redact } from '../errors/index.ts'
import { check, digestOf, parseStrictJson } from '../image/index.ts'
import { runProgram } from '../linux/index.ts'
import { findInAuthFile } from './auth-file.ts'
import type { Credential } from './credential.ts'
import type { HelperEnvironment } from './credential-helper.ts'
import type { CredentialSource, FindCredentialOptions } from './credentials.ts'
import { type CredentialProvider, durationMs, matchesImage, readProviderConfig } from './provider-config.ts'

/** The limit of the kubelet. */
const TIMEOUT_MS = 60_000
const MAX_OUTPUT_BYTES = 1 << 20
const MAX_WORDS = 200
const MAX_CACHED = 1000

const ResponseSchema = v.object({
  kind: v.literal('CredentialProviderResponse'),
  apiVersion: v.string(),
  cacheKeyType: v.picklist(['Image', 'Registry', 'Global']),
  cacheDuration: v.nullish(v.string()),
  auth: v.nullish(v.record(v.string(), v.object({ username: v.string(), password: v.string() }))),
})
type Auths = NonNullable<v.InferOutput<typeof ResponseSchema>['auth']>

export interface CredentialProvidersOptions {
  /** File of the configuration. */
  readonly config: string
  /** Directory of the programs. */
  readonly binDir: string
  /** Environment of the programs, besides what the configuration names. */
  readonly env: HelperEnvironment
  /** A monotonic clock in ms. */
  readonly now?: () => number
}

/** The tokens of a pod's service account by their audiences. Some plugins exchange them for credentials. */
export type PodTokens = ReadonlyMap<string, string>

/** The plugins of one configuration, with their answers in memory for as long as they say. */
export class CredentialProviders implements CredentialSource {
  readonly #options: CredentialProvidersOptions
  readonly #now: () => number
  readonly #cache = new Map<string, { readonly auths: Auths; readonly expiresAtMs: number }>()
  readonly #asking = new SingleFlight()

  constructor(options: CredentialProvidersOptions) {
    this.#options = options
    this.#now = options.now ?? (() => performance.now())
  }

  /**
   * Asks the plugins that are configured for an image, in their order, until one has a credential. The configuration is read each time. `unavailable` if
   * it is invalid or one of them failed, since the image may be public. @throws CANCELED
   */
  readonly find: CredentialSource['find'] = async (registry, options = {}) =>
    this.#find(registry, options, undefined)

  /** Returns the same source for an image of a pod: plugins that take a token get that of the pod. Their answers are kept for this token alone. */
  ofPod(tokens: PodTokens): CredentialSource {
    return { find: async (registry, options = {}) => this.#find(registry, options, tokens) }
  }

  /** Returns whether a plugin that is configured for a repository takes tokens; false if the configuration is invalid. */
  async takesTokens(registry: string, repository: string): Promise<boolean> {
    try {
      const providers = await readProviderConfig(this.#options.config)
      const image = `${registry}/${repository}`
      return providers.some((provider) => provider.token !== undefined && isFor(provider, image))
    } catch (error) {
      if (isLoamError(error, 'CREDENTIALS_INVALID')) return false
      throw error
    }
  }

  async #find(
    registry: string,
    { repository, signal }: FindCredentialOptions,
    tokens: PodTokens | undefined,
  ): Promise<Credential | undefined> {
    const image = repository === undefined ? registry : `${registry}/${repository}`
    let unavailable: Credential | undefined
    const fail = (error: unknown) => {
      if (!isLoamError(error, 'CREDENTIALS_INVALID')) throw error
      unavailable ??= { kind: 'unavailable', reason: error }
    }
    const providers = await readProviderConfig(this.#options.config).catch(fail)
    for (const provider of providers ?? []) {
      if (!isFor(provider, image)) continue
      const where = `credential provider ${provider.name}`
      try {
        const auths = await this.#ask(provider, { registry, image, tokens }, signal)
        const found = await findInAuthFile({ auths }, { registry, repository }, { where, env: {}, signal })
        if (found !== undefined) return found
      } catch (error) {
        fail(error)
      }
    }
    return unavailable
  }

  async #ask(
    provider: CredentialProvider,
    asked: {
      readonly registry: string
      readonly image: string
      readonly tokens: PodTokens | undefined
    },
    signal: AbortSignal | undefined,
  ): Promise<Auths> {
    const { registry, image, tokens } = asked
    const token = tokenFor(provider, tokens)
    let answer: Auths | undefined
    const keys = { Image: `image ${image}`, Registry: `registry ${registry}`, Global: 'global' }
    const keyOf = (type: keyof typeof keys) =>
      `${provider.name} ${keys[type]} ${token === undefined ? '' : digestOf(Buffer.from(token))}`
    for (;;) {
      const known = (['Image', 'Registry', 'Global'] as const).map((type) => this.#cached(keyOf(type)))
      const auths = known.find((found) => found !== undefined)
      if (auths !== undefined) return auths
      await this.#asking.join(keyOf('Image'), signal, async (given) => {
        const response = await this.#run(provider, { image, tokens, token }, given)
        answer = response.auth ?? {}
        const { cacheDuration, cacheKeyType } = response
        const keptMs =
          cacheDuration === null || cacheDuration === undefined ? provider.cacheMs : durationMs(cacheDuration)
        this.#keep(keyOf(cacheKeyType), answer, keptMs)
      })
      // Another caller's answer is kept, unless it failed or may not be.
      if (answer !== undefined) return answer
    }
  }

  #cached(key: string): Auths | undefined {
    const found = this.#cache.get(key)
    if (found === undefined || found.expiresAtMs > this.#now()) return found?.auths
    this.#cache.delete(key)
    return undefined
  }

  #keep(key: string, auths: Auths, keptMs: number): void {
    if (keptMs <= 0) return
    for (const other of this.#cache.keys()) this.#cached(other)
    this.#cache.set(key, { auths, expiresAtMs: this.#now() + keptMs })
    const oldest = this.#cache.keys().next().value
    if (this.#cache.size > MAX_CACHED && oldest !== undefined) this.#cache.delete(oldest)
  }

  async #run(
    provider: CredentialProvider,
    asked: {
      readonly image: string
      readonly tokens: PodTokens | undefined
      readonly token: string | undefined
    },
    signal: AbortSignal,
  ) {
    const { image, tokens, token } = asked
    const { binDir, env, config } = this.#options
    const program = join(binDir, provider.name)
    const failed = (why: string, cause?: unknown) =>
      new LoamError('CREDENTIALS_INVALID', `ask credential provider ${provider.name} for ${image}: ${why}`, {
        cause,
        hint: `${config} configures it, and image_credential_provider_bin_dir has it: ${program}.`,
      })
    const missing = whatIsMissing(provider, tokens, token)
    if (missing !== undefined) throw failed(missing)
    // A plugin may repeat it in its errors.
    if (token !== undefined) keepSecret(token)
    const request = {
      kind: 'CredentialProviderRequest',
      apiVersion: provider.apiVersion,
      image,
      ...(token === undefined ? {} : { serviceAccountToken: token }),
    }
    let result: Awaited<ReturnType<typeof runProgram>>
    try {
      result = await runProgram(program, provider.args, {
        env: { ...env, ...provider.env },
        input: JSON.stringify(request),
        timeoutMs: TIMEOUT_MS,
        maxOutputBytes: MAX_OUTPUT_BYTES,
        signal,
      })
    } catch (error) {
      if (signal.aborted || !isLoamError(error)) throw error
      throw failed(error.message.replace(/^run [^:]*: /, ''), error)
    }
    const { status, stdout, stderr } = result
    if (status !== 0) {
      const words = redact(stderr.trim()).slice(0, MAX_WORDS)
      throw failed(`it exited with status ${status}${words === '' ? '' : ` (${words})`}`)
    }
    return this.#read(stdout, provider, failed)
  }

  #read(text: string, provider: CredentialProvider, failed: (why: string) => LoamError) {
    try {
      const response = check(ResponseSchema, parseStrictJson(Buffer.from(text), 'answer'), 'answer')
      if (response.cacheDuration !== null && response.cacheDuration !== undefined)
        durationMs(response.cacheDuration)
      if (response.apiVersion === provider.apiVersion) return response
    } catch {
      // The parser's message may quote a password.
      throw failed('its answer is not a CredentialProviderResponse')
    }
    throw failed(`its answer does not have the apiVersion ${provider.apiVersion}`)
  }
}

function isFor({ matchImages }: CredentialProvider, image: string): boolean {
  return matchImages.some((glob) => matchesImage(glob, image))
}

function tokenFor({ token }: CredentialProvider, tokens: PodTokens | undefined): string | undefined {
  return token === undefined ? undefined : tokens?.get(token.audience)
}

/** Returns what a plugin needs that is not here; undefined if it can be asked. One that does not require a token is asked without, as the kubelet does for static pods. */
function whatIsMissing(
  { token: wanted }: CredentialProvider,
  tokens: PodTokens | undefined,
  token: string | undefined,
): string | undefined {
  if (wanted === undefined || (token === undefined && !wanted.isRequired)) return undefined
  if (tokens === undefined)
    return 'it needs the token of a pod, which the kubelet has (kubelet --image-service-endpoint), or gives to a CSI driver'
  if (token === undefined)
    return `it needs a token for ${wanted.audience}, which the CSIDriver does not request (spec.tokenRequests)`
  if (wanted.annotationKeys.length > 0)
    return `it needs annotations of the service account (${wanted.annotationKeys.join(', ')}), which only the kubelet has (kubelet --image-service-endpoint)`
  return undefined
}
