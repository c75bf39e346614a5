import { renameSync, writeFileSync } from 'node:fs'
import { extname } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Settings } from '../config/index.ts'
import {
  createDirectories,
  executableWords,
  isResting,
  ownDirectory,
  ownExecutable,
  plainEnvironment,
  startDetached,
} from '../linux/index.ts'
import { lazyPaths } from './lazy-paths.ts'

/** The program `loam`, seen from a module of the sources and from a bundle. */
const PROGRAM = extname(import.meta.url) === '.ts' ? '../../bin/loam.cjs' : '../bin/loam.cjs'

/** Returns the words that start the command `loam` again, for a process that outlives this one. */
export function loamProgram(): readonly string[] {
  const executable = ownExecutable()
  if (executable !== undefined) return [executable.program]
  return [process.execPath, fileURLToPath(new URL(PROGRAM, import.meta.url))]
}

/** Where credentials, certificates and proxies are found. */
const VARIABLES = [
  'XDG_*',
  'DOCKER_CONFIG',
  'REGISTRY_AUTH_FILE',
  'SSL_CERT_*',
  'NODE_EXTRA_CA_CERTS',
  'NODE_COMPILE_CACHE',
  ...['HTTP_PROXY', 'HTTPS_PROXY', 'NO_PROXY'].flatMap((name) => [name, name.toLowerCase()]),
]
/** It lives as long as anything is partial, and has little to keep: less memory is worth more than speed. */
const NODE_OPTIONS = ['--max-semi-space-size=1', '--v8-pool-size=1']
/** Node takes it from words alone. */
const WORD_OPTIONS = ['--optimize-for-size']
const MALLOC = { MALLOC_ARENA_MAX: '1', MALLOC_MMAP_THRESHOLD_: '131072' }
/** The setting `docker_config`, if it contains credentials itself: the environment of a process is its owner's alone. */
export const INLINE_CREDENTIALS = 'LOAM_LAZY_DOCKER_CONFIG'

/** The process that needs a handler. */
export interface HandlerCaller {
  readonly values: Settings
  readonly userId: number
  readonly env: Readonly<Record<string, string | undefined>>
  /** Directory that relative paths start from; '' for that of this process. */
  readonly cwd: string
}

/** What a handler reads of the process that it was started for. */
export type HandlerConfiguration = Pick<HandlerCaller, 'values' | 'userId' | 'cwd'>

/**
 * Starts a handler for the store of a caller, with the caller's settings, environment and directory. It outlives the caller; a second one ends
 * at once, and none is started while one rests after a failure. Returns before it serves. @throws PROGRAM_FAILED, system errors
 */
export async function startHandler({ values, userId, env, cwd }: HandlerCaller): Promise<void> {
  const paths = lazyPaths(values.state)
  if (isResting(paths.rest)) return
  createDirectories(paths.folder)
  const isInline = values.docker_config?.trimStart().startsWith('{') === true
  const kept = isInline ? { ...values, docker_config: undefined } : values
  const configuration: HandlerConfiguration = { values: kept, userId, cwd: cwd === '' ? ownDirectory() : cwd }
  const own = `${paths.configuration}.${process.pid}`
  writeFileSync(own, JSON.stringify(configuration), { mode: 0o600 })
  renameSync(own, paths.configuration)
  await startDetached(process.execPath, programWords(['lazyd', '--state', values.state]), {
    env: {
      ...MALLOC,
      // An executable has no words for Node.
      ...(ownExecutable() === undefined ? {} : { NODE_OPTIONS: NODE_OPTIONS.join(' ') }),
      ...plainEnvironment(env, [...VARIABLES, ...values.credential_helper_env]),
      ...(isInline ? { [INLINE_CREDENTIALS]: values.docker_config ?? '' } : {}),
    },
    log: paths.log,
    restFile: paths.rest,
  })
}

/** Returns the words that start `loam lazyd` by this process's own file. */
function programWords(words: readonly string[]): string[] {
  const executable = ownExecutable()
  if (executable !== undefined) return executableWords(executable, words)
  return [...NODE_OPTIONS, ...WORD_OPTIONS, ...loamProgram().slice(1), ...words]
}
