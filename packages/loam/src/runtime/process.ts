import { LoamError } from '../errors/index.ts'
import type { RunConfig } from '../image/index.ts'

/** The command that a user requests. */
export interface CommandRequest {
  /** Program, or a JSON list of words, instead of the image's entrypoint; the empty text removes the entrypoint. */
  readonly value?: string | undefined
  /** Arguments after the program, or after the image's entrypoint; empty for the image's own. */
  readonly args: readonly string[]
  /** `value` is a line for /bin/sh -c. */
  readonly shell: boolean
}

/** The settings of a user that take precedence over the image's. */
export interface ProcessRequest {
  /** `KEY=VALUE`, as `readEnv` returns them. */
  readonly env: readonly string[]
  readonly terminal: boolean
}

const DEFAULT_PATH = 'PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'

/**
 * Merges entrypoint and command as Docker and OCI do it: arguments replace the image's command and keep its
 * entrypoint; a program replaces both. Empty if the image has neither and nothing was requested. @throws USAGE for a shell without a line
 */
export function mergeCommand(run: RunConfig, { value, args, shell }: CommandRequest): string[] {
  if (shell) {
    if (value === undefined) throw new LoamError('USAGE', 'run: a shell command line is empty')
    return ['/bin/sh', '-c', value]
  }
  if (value !== undefined && value !== '') return [...(parseWords(value) ?? [value]), ...args]
  const entrypoint = value === '' ? [] : run.entrypoint
  return [...entrypoint, ...(args.length > 0 ? args : run.cmd)]
}

/** Parses an entrypoint that is a JSON list of words, as podman takes it; undefined for the name of a program. */
function parseWords(text: string): string[] | undefined {
  if (!text.startsWith('[')) return undefined
  try {
    const list: unknown = JSON.parse(text)
    const isWords = Array.isArray(list) && list.length > 0 && list.every((word) => typeof word === 'string')
    return isWords ? list : undefined
  } catch {
    return undefined
  }
}

/** An entrypoint of one empty text means no entrypoint: a build removes that of its base in this way (moby, daemon/create.go). */
export function resetEntrypoint(run: RunConfig): RunConfig {
  return run.entrypoint.length === 1 && run.entrypoint[0] === '' ? { ...run, entrypoint: [] } : run
}

/** Returns an image's config without the parts that `docker_ignore_runtime` ignores. */
export function ignoreRuntime(run: RunConfig): RunConfig {
  return { ...run, env: [], entrypoint: [], cmd: [], workingDir: '' }
}

/**
 * Reads variables: `KEY=VALUE`, or `KEY` for its value in the user's environment. @throws USAGE for a KEY that is not set there, and
 * for a text that does not name a variable
 */
export function readEnv(
  entries: readonly string[],
  own: Readonly<Record<string, string | undefined>>,
): string[] {
  return entries.map((entry) => {
    const equals = entry.indexOf('=')
    if (equals > 0) return entry
    const value = equals < 0 && Object.hasOwn(own, entry) ? own[entry] : undefined
    if (value !== undefined) return `${entry}=${value}`
    const why =
      equals < 0 && entry !== '' ? 'it is not set in this environment' : 'the variable name is empty'
    throw new LoamError('USAGE', `read --env ${JSON.stringify(entry)}: ${why}`, {
      hint: 'Give NAME=VALUE, or NAME alone to pass on its current value.',
    })
  })
}

/** Merges environments: a later KEY replaces an earlier one in its place. PATH and HOME are always set, and TERM with a terminal. */
export function mergeEnv(run: RunConfig, request: ProcessRequest, home: string): string[] {
  const defaults = [DEFAULT_PATH, `HOME=${home}`, ...(request.terminal ? ['TERM=xterm'] : [])]
  const merged = new Map<string, string>()
  for (const entry of [...defaults, ...run.env, ...request.env]) {
    const equals = entry.indexOf('=')
    // A lone KEY of an image refers to the environment of its builder; images do not get values of this one.
    if (equals > 0) merged.set(entry.slice(0, equals), entry)
  }
  return [...merged.values()]
}

/** The longest word or variable that the kernel takes, with the NUL at its end (MAX_ARG_STRLEN of linux/binfmts.h). */
const MAX_WORD_BYTES = 131_072

/**
 * Checks that execve(2) takes each word and variable of a process: for a longer one, runtimes exit with a status that looks like the
 * process's own. @throws COMMAND_NOT_EXECUTABLE
 */
export function checkWords(args: readonly string[], env: readonly string[]): void {
  for (const [index, word] of args.entries()) checkWord(`argument ${index}`, word)
  for (const entry of env) checkWord(`variable ${entry.slice(0, entry.indexOf('=')).slice(0, 64)}`, entry)
}

function checkWord(what: string, word: string): void {
  const bytes = Buffer.byteLength(word)
  const why = word.includes('\0')
    ? 'has a NUL'
    : `has ${bytes} bytes, the kernel's limit is ${MAX_WORD_BYTES - 1}`
  if (bytes < MAX_WORD_BYTES && !word.includes('\0')) return
  throw new LoamError('COMMAND_NOT_EXECUTABLE', `run: ${what} ${why}`)
}

/** Returns the directories that a command's name is looked up in, each once. */
export function searchPath(env: readonly string[]): string[] {
  const path = env.find((entry) => entry.startsWith('PATH='))?.slice('PATH='.length) ?? ''
  const directories = path.slice(0, MAX_WORD_BYTES).split(':')
  return [...new Set(directories)].filter((directory) => directory !== '')
}
