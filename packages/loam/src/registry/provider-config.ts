/*
 * The kubelet's configuration of credential providers (--image-credential-provider-config), as YAML or JSON.
 *
 *   kind: CredentialProviderConfig
 *   providers: [{ name, matchImages, defaultCacheDuration, apiVersion, args, env: [{ name, value }], tokenAttributes }]
 *
 * Sources: Kubernetes' kubelet.config.k8s.io/v1; which image a glob matches: pkg/credentialprovider (URLsMatch).
 */
import * as v from 'valibot'
import { LoamError } from '../errors/index.ts'
import { check } from '../image/index.ts'
import { readRegular } from '../linux/index.ts'
import { fitsPart } from './auth-file.ts'
import { parseGoDuration } from './go-duration.ts'

const MAX_FILE_BYTES = 1 << 20
const API_VERSION = /^credentialprovider\.kubelet\.k8s\.io\/v1(?:alpha1|beta1)?$/

const TokenAttributesSchema = v.object({
  serviceAccountTokenAudience: v.string(),
  requireServiceAccount: v.boolean(),
  requiredServiceAccountAnnotationKeys: v.nullish(v.array(v.string()), []),
})
const ProviderSchema = v.object({
  name: v.pipe(v.string(), v.regex(/^(?!\.{1,2}$)[^/\s]+$/)),
  matchImages: v.pipe(v.array(v.string()), v.minLength(1)),
  defaultCacheDuration: v.string(),
  apiVersion: v.pipe(v.string(), v.regex(API_VERSION)),
  args: v.nullish(v.array(v.string()), []),
  env: v.nullish(v.array(v.object({ name: v.string(), value: v.string() })), []),
  tokenAttributes: v.nullish(TokenAttributesSchema),
})
const ConfigSchema = v.object({
  kind: v.literal('CredentialProviderConfig'),
  providers: v.array(ProviderSchema),
})

export interface TokenAttributes {
  /** Whom the token is for. */
  readonly audience: string
  /** Whether the program is not asked without one. */
  readonly isRequired: boolean
  /** Annotations without which a service account is not for this program. */
  readonly annotationKeys: readonly string[]
}

/** A program that gives credentials for images. */
export interface CredentialProvider {
  readonly name: string
  readonly matchImages: readonly string[]
  /** How long an answer without a duration of its own is kept. */
  readonly cacheMs: number
  readonly apiVersion: string
  readonly args: readonly string[]
  readonly env: Readonly<Record<string, string>>
  /** Which token of a pod's service account it gets; undefined for none. */
  readonly token: TokenAttributes | undefined
}

/** Reads the configuration. @throws CREDENTIALS_INVALID, which names the file */
export async function readProviderConfig(path: string): Promise<CredentialProvider[]> {
  try {
    const text = Buffer.from(readRegular(path, MAX_FILE_BYTES, 'CREDENTIALS_INVALID')).toString('utf8')
    // Loaded here, since few need it.
    const { parse } = await import('yaml')
    const { providers } = check(ConfigSchema, parse(text, { maxAliasCount: 10 }), path)
    return providers.map(({ defaultCacheDuration, env, tokenAttributes, ...rest }) => ({
      ...rest,
      cacheMs: durationMs(defaultCacheDuration),
      env: Object.fromEntries(env.map(({ name, value }) => [name, value])),
      token: tokenOf(tokenAttributes),
    }))
  } catch (error) {
    const [first = ''] = (error instanceof Error ? error.message : String(error)).split('\n')
    // The value may be a secret.
    const why = first.replace(/ but received .*/, '')
    throw new LoamError('CREDENTIALS_INVALID', `read ${path}: it is not a CredentialProviderConfig: ${why}`, {
      cause: error,
      hint: 'image_credential_provider_config names it; the kubelet takes the same file.',
    })
  }
}

/** Without an audience there is no token. */
function tokenOf(
  given: v.InferOutput<typeof TokenAttributesSchema> | null | undefined,
): TokenAttributes | undefined {
  if (given === null || given === undefined || given.serviceAccountTokenAudience === '') return undefined
  return {
    audience: given.serviceAccountTokenAudience,
    isRequired: given.requireServiceAccount,
    annotationKeys: given.requiredServiceAccountAnnotationKeys ?? [],
  }
}

/** Reads a duration as Go writes it: `12h0m0s`. @throws Error */
export function durationMs(text: string): number {
  const timeMs = parseGoDuration(text)
  if (timeMs !== undefined) return timeMs
  throw new Error(`${JSON.stringify(text.slice(0, 64))} is not a duration, for example 12h`)
}

/** Returns whether a glob of `matchImages` matches an image, given without a tag: globs in the parts of the host, the same port, a prefix of the path. */
export function matchesImage(glob: string, image: string): boolean {
  const [wanted, given] = [splitImage(glob), splitImage(image)]
  return (
    wanted.port === given.port &&
    wanted.host.length === given.host.length &&
    given.path.startsWith(wanted.path) &&
    wanted.host.every((part, index) => fitsPart(part, given.host[index] ?? ''))
  )
}

function splitImage(text: string): { host: string[]; port: string; path: string } {
  const rest = text.replace(/^https?:\/\//i, '')
  const slash = rest.includes('/') ? rest.indexOf('/') : rest.length
  const [host = '', port = ''] = rest.slice(0, slash).split(':')
  return { host: host.split('.'), port, path: rest.slice(slash) }
}
