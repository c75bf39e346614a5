import { spawn } from 'node:child_process'
import { closeSync, existsSync, openSync, statSync } from 'node:fs'
import { toLoamError } from '../errors/index.ts'
import { searchPath } from './environment.ts'
import { findProgram } from './processes.ts'

/** Longest time in seconds between the failures of a program. */
const MAX_REST_S = 32
/** A program that has run as long as this in seconds before it failed is not one that cannot start. */
const SOUND_S = 60
/**
 * One that was killed or ended from outside (a shell has 128 and the signal's number as its status) is started again at once. One that fails or crashes
 * rests first, twice as long each time; while it does, the file `$0` is there.
 */
const RESTARTING = [
  'rest=1',
  'while :; do begin=$(date +%s)',
  '"$@" && exit',
  'case $? in 137|143) continue;; esac',
  `[ $(($(date +%s) - begin)) -lt ${SOUND_S} ] || rest=1`,
  ': > "$0" || exit',
  'sleep $rest',
  'rm -f "$0"',
  `[ $rest -ge ${MAX_REST_S} ] || rest=$((rest * 2))`,
  'done',
].join('; ')
/** systemd-run fails without starting anything where it cannot reach systemd. */
const IN_SCOPE = `systemd-run --scope --collect --quiet sh -c '${RESTARTING}' "$0" "$@" || { ${RESTARTING}; }`
/** Exists where systemd is the first process (sd_booted(3)). */
const SYSTEMD = '/run/systemd/system'

export interface DetachedOptions {
  readonly env: Readonly<Record<string, string>>
  /** File that its output is appended to. */
  readonly log: string
  /** File that is there while the program rests after a failure (`isResting`). */
  readonly restFile: string
  /** Whether to ask systemd for a scope. Undefined: where systemd runs. */
  readonly hasScope?: boolean | undefined
}

/**
 * Starts a program in a session of its own, where the signals of this terminal do not reach it. It outlives this process; under systemd it gets a
 * scope, so that the end of this process's service does not kill it. When it is killed it is started again; when it fails, after a rest. @throws
 * PROGRAM_FAILED, system errors
 */
export async function startDetached(
  file: string,
  args: readonly string[],
  { env, log, restFile, hasScope }: DetachedOptions,
): Promise<void> {
  const isScoped =
    hasScope ?? (existsSync(SYSTEMD) && findProgram('systemd-run', searchPath(env)) !== undefined)
  const output = openSync(log, 'a', 0o600)
  try {
    const child = spawn('sh', ['-c', isScoped ? IN_SCOPE : RESTARTING, restFile, file, ...args], {
      cwd: '/',
      detached: true,
      stdio: ['ignore', output, output],
      env,
    })
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    child.once('spawn', resolve)
    child.once('error', reject)
    await promise
    child.unref()
  } catch (error) {
    throw toLoamError(error, `start ${file}`)
  } finally {
    closeSync(output)
  }
}

/** Returns whether a detached program has failed and rests before its next start. What a shell that was killed has left counts only as long as a rest lasts. */
export function isResting(restFile: string): boolean {
  const since = statSync(restFile, { throwIfNoEntry: false })?.mtimeMs
  return since !== undefined && Math.abs(Date.now() - since) < MAX_REST_S * 1000
}
