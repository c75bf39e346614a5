/*
 * Credential provider plugins of the kubelet: a program reads a CredentialProviderRequest from its standard input, and writes a
 * CredentialProviderResponse.
 * Source: Kubernetes' credentialprovider.kubelet.k8s.io/v1 and pkg/credentialprovider/plugin.
 */
import { join } from 'node:path'
import * as v from 'valibot'
import { SingleFlight } from '../content/index.ts'
import { isLoamError, LoamError, redact } from '../errors/index.ts'
import { check, parseStrictJson } from '../image/index.ts'
import { runProgram } from '../linux/index.ts'
import { findInAuthFile } from './auth-file.ts'
import type { Credential } from './credential.ts'
import type { HelperEnvironment } from './credential-helper.ts'
import type { CredentialSource } from './credentials.ts'
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
  readonly find: CredentialSource['find'] = async (registry, { repository, signal } = {}) => {
    const image = repository === undefined ? registry : `${registry}/${repository}`
    let unavailable: Credential | undefined
    const fail = (error: unknown) => {
      if (!isLoamError(error, 'CREDENTIALS_INVALID')) throw error
      unavailable ??= { kind: 'unavailable', reason: error }
    }
    const providers = await readProviderConfig(this.#options.config).catch(fail)
    for (const provider of providers ?? []) {
      if (!provider.matchImages.some((glob) => matchesImage(glob, image))) continue
      const where = `credential provider ${provider.name}`
      try {
        const auths = await this.#ask(provider, registry, image, signal)
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
    registry: string,
    image: string,
    signal: AbortSignal | undefined,
  ): Promise<Auths> {
    let answer: Auths | undefined
    const keys = { Image: `image ${image}`, Registry: `registry ${registry}`, Global: 'global' }
    const keyOf = (type: keyof typeof keys) => `${provider.name} ${keys[type]}`
    for (;;) {
      const known = (['Image', 'Registry', 'Global'] as const).map((type) => this.#cached(keyOf(type)))
      const auths = known.find((found) => found !== undefined)
      if (auths !== undefined) return auths
      await this.#asking.join(keyOf('Image'), signal, async (given) => {
        const response = await this.#run(provider, image, given)
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

  async #run(provider: CredentialProvider, image: string, signal: AbortSignal) {
    const { binDir, env, config } = this.#options
    const program = join(binDir, provider.name)
    const failed = (why: string, cause?: unknown) =>
      new LoamError('CREDENTIALS_INVALID', `ask credential provider ${provider.name} for ${image}: ${why}`, {
        cause,
        hint: `${config} configures it, and image_credential_provider_bin_dir has it: ${program}.`,
      })
    if (provider.needsServiceAccount)
      throw failed(
        'it needs the token of a pod, which only the kubelet has (kubelet --image-service-endpoint)',
      )
    const request = { kind: 'CredentialProviderRequest', apiVersion: provider.apiVersion, image }
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
