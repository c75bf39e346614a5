import { spawn } from 'node:child_process'
import { closeSync, existsSync, openSync } from 'node:fs'
import { toLoamError } from '../errors/index.ts'
import { searchPath } from './environment.ts'
import { findProgram } from './processes.ts'

/** A shell has 128 and the signal's number as the status of a killed program. One that fails by itself gets a second to breathe. */
const RESTARTING = 'while :; do "$@" && exit; [ $? -gt 128 ] || sleep 1; done'
/** systemd-run fails without starting anything where it cannot reach systemd. */
const IN_SCOPE = `systemd-run --scope --collect --quiet sh -c '${RESTARTING}' "$0" "$@" || { ${RESTARTING}; }`
/** Exists where systemd is the first process (sd_booted(3)). */
const SYSTEMD = '/run/systemd/system'

export interface DetachedOptions {
  readonly env: Readonly<Record<string, string>>
  /** File that its output is appended to. */
  readonly log: string
  /** Whether to ask systemd for a scope. Undefined: where systemd runs. */
  readonly hasScope?: boolean | undefined
}

/**
 * Starts a program in a session of its own, where the signals of this terminal do not reach it. It outlives this process; under systemd it gets a
 * scope, so that the end of this process's service does not kill it. When a signal kills it, or it fails, it is started again. @throws
 * PROGRAM_FAILED, system errors
 */
export async function startDetached(
  file: string,
  args: readonly string[],
  { env, log, hasScope }: DetachedOptions,
): Promise<void> {
  const isScoped =
    hasScope ?? (existsSync(SYSTEMD) && findProgram('systemd-run', searchPath(env)) !== undefined)
  const output = openSync(log, 'a', 0o600)
  try {
    const child = spawn('sh', ['-c', isScoped ? IN_SCOPE : RESTARTING, 'loam', file, ...args], {
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
