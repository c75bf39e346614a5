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
// Its client in Go decodes into a struct, where fields may be absent.
const AnswerSchema = v.object({ username: v.nullish(v.string()), secret: v.nullish(v.string()) })

/** What credential helpers need of an environment: the user's keyring, the cloud that they ask, and the way there. */
const HELPER_VARIABLES: readonly string[] = [
  ...['DOCKER_CONFIG', 'XDG_*', 'DBUS_SESSION_BUS_ADDRESS', 'DISPLAY', 'WAYLAND_DISPLAY', 'XAUTHORITY'],
  ...['GNUPGHOME', 'GPG_TTY', 'PASSWORD_STORE_*', 'SSH_AUTH_SOCK'],
  ...['AWS_*', 'AZURE_*', 'GOOGLE_*', 'CLOUDSDK_*', 'MSI_*', 'IDENTITY_*', 'SSL_CERT_FILE', 'SSL_CERT_DIR'],
  ...['HTTP_PROXY', 'HTTPS_PROXY', 'NO_PROXY', 'http_proxy', 'https_proxy', 'no_proxy'],
]

/** All of what a credential helper sees. */
export type HelperEnvironment = Readonly<Record<string, string>>

/** Returns what credential helpers see of an environment; `more` names what else, `NAME*` all that begin so. */
export function helperEnvironment(env: Environment, more: readonly string[] = []): HelperEnvironment {
  return plainEnvironment(env, [...HELPER_VARIABLES, ...more])
}

export interface HelperOptions {
  /** What names the helper, for messages. */
  readonly where: string
  readonly env: HelperEnvironment
  readonly signal?: AbortSignal | undefined
}

/**
 * Asks a helper. What it does not know, or says nothing about, is undefined; one that is missing or fails is `unavailable`, since the image
 * may be public. @throws CREDENTIALS_INVALID for a name that is a path, CANCELED
 */
export async function askHelper(
  name: string,
  server: string,
  { where, env, signal }: HelperOptions,
): Promise<Credential | undefined> {
  if (!/^[A-Za-z0-9_.-]+$/.test(name)) {
    throw new LoamError(
      'CREDENTIALS_INVALID',
      `ask credential helper ${JSON.stringify(name)}: ${where} is not a valid program name`,
    )
  }
  const program = `docker-credential-${name}`
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
    // "credentials not found in native keychain" is the protocol's; others say it in words of their own.
    if (/not found|no credentials/i.test(stdout)) return undefined
    // What looks like an answer holds the password.
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

function parseAnswer(text: string, program: string): { username: string; secret: string } | undefined {
  try {
    const value = parseStrictJson(Buffer.from(text), program)
    // Go's decoder does not look at the case of names.
    const entries = Object.entries(v.parse(v.record(v.string(), v.unknown()), value))
    const lower = Object.fromEntries(entries.map(([key, field]) => [key.toLowerCase(), field]))
    const { username, secret } = check(AnswerSchema, lower, program)
    return { username: username ?? '', secret: secret ?? '' }
  } catch {
    return undefined
  }
}
