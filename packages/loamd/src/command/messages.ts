/*
 * What the thin client of `loam` (packages/loam/bin/loam.cjs) and the daemon say to each other on an upgraded connection: lines of JSON, each with one
 * of these keys. The client begins with its request.
 *
 *   client: request              daemon: {"out": text}    to standard output
 *           {"signal": name}             {"err": text}    to standard error
 *           {"answer": line}             {"ask": text}    ask the person at the terminal, and answer
 *           {"status": number}           {"run": …}       start this program in the foreground, and tell its status
 *           {"failed": text}             {"self": reason} run the command line yourself: nothing of it has been done
 *                                        {"exit": number} the command has ended
 */

/** Bytes of one message. A request holds arguments and environment, of which the kernel takes 2 MiB by default (execve(2)). */
export const MAX_MESSAGE_BYTES = 8 << 20

/** What a client asks for, and what it is. */
export interface CommandRequest {
  readonly version: string
  readonly args: readonly string[]
  readonly cwd: string
  readonly env: Readonly<Record<string, string>>
  /** What the client is in: its root directory and its namespaces, as `identify` tells them. */
  readonly surroundings: string
  /** Whether standard input, output and error are terminals. */
  readonly terminals: readonly [boolean, boolean, boolean]
  /** Widths of standard output and error. */
  readonly columns: readonly [number | undefined, number | undefined]
  /** Bounding set of its capabilities, as /proc/self/status has it. */
  readonly capabilities: string | undefined
}

/** What a client says while its command runs. */
export type ClientMessage =
  | { readonly signal: string }
  | { readonly answer: string }
  | { readonly status: number }
  | { readonly failed: string }

/** What the daemon says. */
export type DaemonMessage =
  | { readonly out: string }
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
  /** Command line of `loam` that cleans up after it where the daemon is gone; empty when all is to stay. */
  readonly cleanUp: readonly string[]
}

/** Why a command line is not run by the daemon: text for a person. A mismatch of versions is told also where the daemon was not required. */
export interface SelfReason {
  readonly why: 'version' | 'surroundings' | 'store' | 'process'
  readonly text: string
}

/** Reads a request; undefined for anything else. */
export function parseRequest(line: string): CommandRequest | undefined {
  const value = parseObject(line)
  if (value === undefined) return undefined
  const { version, args, cwd, env, surroundings, terminals, columns, capabilities } = value
  if (typeof version !== 'string' || typeof cwd !== 'string' || typeof surroundings !== 'string')
    return undefined
  if (!isTexts(args) || !isObject(env) || !isTexts(Object.values(env))) return undefined
  if (!Array.isArray(terminals) || !Array.isArray(columns)) return undefined
  return {
    version,
    args,
    cwd,
    env: env as Readonly<Record<string, string>>,
    surroundings,
    terminals: [terminals[0] === true, terminals[1] === true, terminals[2] === true],
    columns: [widthOf(columns[0]), widthOf(columns[1])],
    capabilities:
      typeof capabilities === 'string' && /^[0-9a-f]{1,16}$/.test(capabilities) ? capabilities : undefined,
  }
}

/** Reads what a client says while its command runs; undefined for anything else. */
export function parseClientMessage(line: string): ClientMessage | undefined {
  const value = parseObject(line)
  if (value === undefined) return undefined
  const { signal, answer, status, failed } = value
  if (typeof signal === 'string') return { signal }
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

function widthOf(value: unknown): number | undefined {
  return typeof value === 'number' && Number.isInteger(value) && value > 0 ? value : undefined
}
