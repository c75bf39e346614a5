import { spawn } from 'node:child_process'
import { closeSync, openSync } from 'node:fs'
import { toLoamError } from '../errors/index.ts'

/**
 * Starts a program in a session of its own, where the signals of this terminal do not reach it. It outlives this process. A signal that kills
 * it lets it start again; its own exit does not, unless its status says that it failed. @throws PROGRAM_FAILED, system errors
 */
export async function startDetached(
  file: string,
  args: readonly string[],
  options: { readonly env: Readonly<Record<string, string>>; readonly log: string },
): Promise<void> {
  const log = openSync(options.log, 'a', 0o600)
  try {
    const child = spawn('sh', ['-c', RESTARTING, 'loam', file, ...args], {
      cwd: '/',
      detached: true,
      stdio: ['ignore', log, log],
      env: options.env,
    })
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    child.once('spawn', resolve)
    child.once('error', reject)
    await promise
    child.unref()
  } catch (error) {
    throw toLoamError(error, `start ${file}`)
  } finally {
    closeSync(log)
  }
}

/** A shell has 128 and the signal's number as the status of a killed program. One that fails by itself gets a second to breathe. */
const RESTARTING = 'while :; do "$@" && exit; [ $? -gt 128 ] || sleep 1; done'
