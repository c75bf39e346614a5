/*
 * The messages between the thin client of `loam` (packages/loam/bin/loam.cjs) and the daemon on an upgraded connection: lines of JSON, each with one
 * of these keys. The client begins with its request.
 *
 *   client: request              daemon: {"out": text}    to standard output; {"outBytes": base64} the same for bytes
 *           {"signal": name}             {"err": text}    to standard error
 *           {"size": [columns, rows]}                     of the terminal, when it has changed
 *           {"answer": line}             {"ask": text}    ask the user at the terminal, and answer
 *           {"status": number}           {"run": …}       start this program in the foreground, and send its status
 *           {"failed": text}             {"self": reason} run the command line yourself: the daemon has done nothing of it
 *                                        {"exit": number} the command has ended
 */

/** Bytes of one message. A request holds arguments and environment, of which the kernel takes 2 MiB by default (execve(2)). */
export const MAX_MESSAGE_BYTES = 8 << 20

/** The request of a client, and facts about its process. */
export interface CommandRequest {
  readonly version: string
  readonly args: readonly string[]
  readonly cwd: string
  readonly env: Readonly<Record<string, string>>
  /** The client's root directory and namespaces, as `identify` returns them. */
  readonly surroundings: string
  /** Whether standard input, output and error are terminals. */
  readonly terminals: readonly [boolean, boolean, boolean]
  /** Widths of standard output and error. */
  readonly columns: readonly [number | undefined, number | undefined]
  /** Heights of the same. */
  readonly rows: readonly [number | undefined, number | undefined]
  /** Bounding set of its capabilities, as in /proc/self/status. */
  readonly capabilities: string | undefined
}

/** A message of a client while its command runs. */
export type ClientMessage =
  | { readonly signal: string }
  | { readonly size: readonly [number | undefined, number | undefined] }
  | { readonly answer: string }
  | { readonly status: number }
  | { readonly failed: string }

/** A message of the daemon. */
export type DaemonMessage =
  | { readonly out: string }
  | { readonly outBytes: string }
  | { readonly err: string }
  | { readonly ask: string }
  | { readonly run: RunMessage }
  | { readonly self: SelfReason }
  | { readonly exit: number }

/** A program to start in the foreground. */
export interface RunMessage {
  readonly file: string
  readonly args: readonly string[]
  readonly env: Readonly<Record<string, string>>
  /** Command line of `loam` that cleans up after the program if the daemon has ended; empty if nothing is to be removed. */
  readonly cleanUp: readonly string[]
}

/** Why the daemon does not run a command line: a sentence for the user. A mismatch of versions is reported even if the daemon was not required. */
export interface SelfReason {
  readonly why: 'version' | 'surroundings' | 'store' | 'process'
  readonly text: string
}

/** Parses a request; undefined for anything else. */
export function parseRequest(line: string): CommandRequest | undefined {
  const value = parseObject(line)
  if (value === undefined) return undefined
  const { version, args, cwd, env, surroundings, terminals, columns, rows, capabilities } = value
  if (typeof version !== 'string' || typeof cwd !== 'string' || typeof surroundings !== 'string')
    return undefined
  if (!isTexts(args) || !isObject(env) || !isTexts(Object.values(env))) return undefined
  if (!Array.isArray(terminals) || !Array.isArray(columns)) return undefined
  // Clients of other versions are told so, and send other heights.
  const heights: readonly unknown[] = Array.isArray(rows) ? rows : []
  return {
    version,
    args,
    cwd,
    env: env as Readonly<Record<string, string>>,
    surroundings,
    terminals: [terminals[0] === true, terminals[1] === true, terminals[2] === true],
    columns: [lengthOf(columns[0]), lengthOf(columns[1])],
    rows: [lengthOf(heights[0]), lengthOf(heights[1])],
    capabilities:
      typeof capabilities === 'string' && /^[0-9a-f]{1,16}$/.test(capabilities) ? capabilities : undefined,
  }
}

/** Parses a message of a client while its command runs; undefined for anything else. */
export function parseClientMessage(line: string): ClientMessage | undefined {
  const value = parseObject(line)
  if (value === undefined) return undefined
  const { signal, answer, status, failed, size } = value
  if (typeof signal === 'string') return { signal }
  if (Array.isArray(size)) return { size: [lengthOf(size[0]), lengthOf(size[1])] }
  if (typeof answer === 'string') return { answer }
  if (typeof failed === 'string') return { failed }
  return Number.isInteger(status) ? { status: Number(status) } : undefined
}

function parseObject(line: string): Readonly<Record<string, unknown>> | undefined {
  try {
    const value: unknown = JSON.parse(line)
    return isObject(value) ? value : undefined
  } catch {
    return undefined
  }
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function isTexts(value: unknown): value is readonly string[] {
  return Array.isArray(value) && value.every((each) => typeof each === 'string')
}

function lengthOf(value: unknown): number | undefined {
  return typeof value === 'number' && Number.isInteger(value) && value > 0 ? value : undefined
}
