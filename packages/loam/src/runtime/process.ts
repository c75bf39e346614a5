import type { RunConfig } from '../image/index.ts'

/** What a user asks for over what the image says. */
export interface ProcessRequest {
  /** Arguments after the image's name; empty for the image's own. */
  readonly command: readonly string[]
  /** `KEY=VALUE`. */
  readonly env: readonly string[]
  readonly workingDir: string | undefined
  readonly user: string | undefined
  readonly terminal: boolean
}

const DEFAULT_PATH = 'PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'

/**
 * Merges entrypoint and command as Docker and OCI do: arguments replace the image's command and keep its entrypoint.
 * Empty when the image has neither and nothing was asked for.
 */
export function mergeCommand(run: RunConfig, command: readonly string[]): string[] {
  return [...run.entrypoint, ...(command.length > 0 ? command : run.cmd)]
}

/** Merges environments: a later KEY replaces an earlier one in its place. PATH and HOME are always there, TERM with a terminal. */
export function mergeEnv(run: RunConfig, request: ProcessRequest, home: string): string[] {
  const defaults = [DEFAULT_PATH, `HOME=${home}`, ...(request.terminal ? ['TERM=xterm'] : [])]
  const merged = new Map<string, string>()
  for (const entry of [...defaults, ...run.env, ...request.env]) {
    const equals = entry.indexOf('=')
    // Docker takes a lone KEY from its own environment; ours is nothing that an image may read.
    if (equals > 0) merged.set(entry.slice(0, equals), entry)
  }
  return [...merged.values()]
}

/** Returns the directories that a command's name is looked up in. */
export function searchPath(env: readonly string[]): string[] {
  const path = env.find((entry) => entry.startsWith('PATH='))?.slice('PATH='.length) ?? ''
  return path.split(':').filter((directory) => directory !== '')
}
