/*
 * Programs that keep credentials: docker-credential-<name>, asked by `get` with the server on its standard input.
 * Source: docker/docker-credential-helpers.
 */
import * as v from 'valibot'
import { isLoamError, LoamError, redact } from '../errors/index.ts'
import { check, parseStrictJson } from '../image/index.ts'
import { type Environment, plainEnvironment, runProgram } from '../linux/index.ts'
import type { Credential } from './credential.ts'

const HELPER_TIMEOUT_MS = 30_000
const MAX_WORDS = 200
// Fields may be absent: the client in Go decodes into a struct.
const AnswerSchema = v.object({ username: v.nullish(v.string()), secret: v.nullish(v.string()) })

/** Environment variables that credential helpers need: for the user's keyring, cloud accounts and proxies. */
const HELPER_VARIABLES: readonly string[] = [
  ...['DOCKER_CONFIG', 'XDG_*', 'DBUS_SESSION_BUS_ADDRESS', 'DISPLAY', 'WAYLAND_DISPLAY', 'XAUTHORITY'],
  ...['GNUPGHOME', 'GPG_TTY', 'PASSWORD_STORE_*', 'SSH_AUTH_SOCK'],
  ...['AWS_*', 'AZURE_*', 'GOOGLE_*', 'CLOUDSDK_*', 'MSI_*', 'IDENTITY_*', 'SSL_CERT_FILE', 'SSL_CERT_DIR'],
  ...['HTTP_PROXY', 'HTTPS_PROXY', 'NO_PROXY', 'http_proxy', 'https_proxy', 'no_proxy'],
]

/** The whole environment of a credential helper. */
export type HelperEnvironment = Readonly<Record<string, string>>

/** Returns the variables that credential helpers get; `more` names further ones, `NAME*` those with a prefix. */
export function helperEnvironment(env: Environment, more: readonly string[] = []): HelperEnvironment {
  return plainEnvironment(env, [...HELPER_VARIABLES, ...more])
}

export interface HelperOptions {
  /** The configuration that names the helper, for messages. */
  readonly where: string
  readonly env: HelperEnvironment
  readonly signal?: AbortSignal | undefined
}

/**
 * Asks a helper. Returns undefined if it has no credential, and `unavailable` if it is missing or fails, since the image may be public.
 * @throws CREDENTIALS_INVALID for a name that is a path, CANCELED
 */
export async function askHelper(
  name: string,
  server: string,
  { where, env, signal }: HelperOptions,
): Promise<Credential | undefined> {
  const program = programOf(name, where)
  const unavailable = (why: string, cause?: unknown): Credential => ({
    kind: 'unavailable',
    reason: new LoamError('CREDENTIALS_INVALID', `ask ${program} for ${server}: ${why}`, {
      cause,
      hint: `${where} configures it: install it, or change the configuration. To test it: echo ${server} | ${program} get`,
    }),
  })
  let result: Awaited<ReturnType<typeof runProgram>>
  try {
    result = await runProgram(program, ['get'], { env, input: server, timeoutMs: HELPER_TIMEOUT_MS, signal })
  } catch (error) {
    if (signal?.aborted === true || !isLoamError(error)) throw error
    return unavailable(error.message.replace(/^run [^:]*: /, ''), error)
  }
  const { status, stdout, stderr } = result
  if (status !== 0) {
    // The protocol's text is "credentials not found in native keychain"; some helpers use other texts.
    if (/not found|no credentials/i.test(stdout)) return undefined
    // Output that looks like an answer may contain the password.
    const isAnswer = stdout.includes('{')
    const words = redact((stdout.trim() === '' || isAnswer ? stderr : stdout).trim()).slice(0, MAX_WORDS)
    return unavailable(`it exited with status ${status}${words === '' ? '' : ` (${words})`}`)
  }
  const answer = parseAnswer(stdout, program)
  if (answer === undefined) return unavailable('its answer is not JSON')
  if (answer.secret === '') return undefined
  const from = `${program}, which ${where} names`
  return answer.username === '<token>'
    ? { kind: 'identity-token', token: answer.secret, from }
    : { kind: 'password', username: answer.username, password: answer.secret, from }
}

function programOf(name: string, where: string): string {
  if (/^[A-Za-z0-9_.-]+$/.test(name)) return `docker-credential-${name}`
  throw new LoamError(
    'CREDENTIALS_INVALID',
    `ask credential helper ${JSON.stringify(name)}: ${where} is not a valid program name`,
  )
}

/**
 * Lets a helper store or erase a credential. Returns whether it did; false only if there is none to erase and `isMissingFine`.
 * @throws CREDENTIALS_INVALID if it is missing or fails, CANCELED
 */
export async function tellHelper(
  name: string,
  action: 'store' | 'erase',
  input: string | Readonly<Record<string, string>>,
  { where, env, signal, isMissingFine = false }: HelperOptions & { readonly isMissingFine?: boolean },
): Promise<boolean> {
  const program = programOf(name, where)
  const text = typeof input === 'string' ? input : JSON.stringify(input)
  const failed = (why: string, cause?: unknown) =>
    new LoamError('CREDENTIALS_INVALID', `${action} the login by ${program}: ${why}`, {
      cause,
      hint: `${where} configures it: install it, or change the configuration.`,
    })
  let result: Awaited<ReturnType<typeof runProgram>>
  try {
    result = await runProgram(program, [action], { env, input: text, timeoutMs: HELPER_TIMEOUT_MS, signal })
  } catch (error) {
    if (signal?.aborted === true || !isLoamError(error)) throw error
    throw failed(error.message.replace(/^run [^:]*: /, ''), error)
  }
  const { status, stdout, stderr } = result
  if (status === 0) return true
  const words = `${stdout}\n${stderr}`
  if (isMissingFine && /not found|no credentials/i.test(words)) return false
  throw failed(`it exited with status ${status} (${redact(words.trim()).slice(0, MAX_WORDS)})`)
}

function parseAnswer(text: string, program: string): { username: string; secret: string } | undefined {
  try {
    const value = parseStrictJson(Buffer.from(text), program)
    // Go's decoder ignores the case of names.
    const entries = Object.entries(v.parse(v.record(v.string(), v.unknown()), value))
    const lower = Object.fromEntries(entries.map(([key, field]) => [key.toLowerCase(), field]))
    const { username, secret } = check(AnswerSchema, lower, program)
    return { username: username ?? '', secret: secret ?? '' }
  } catch {
    return undefined
  }
}
