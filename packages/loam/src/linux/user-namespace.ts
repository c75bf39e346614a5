import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, constants, openSync, writeFileSync } from 'node:fs'
import { isErrno, LoamError, throwIfAborted, toLoamError } from '../errors/index.ts'
import { formatRanges, type IdMapping, type IdRange } from './id-mapping.ts'

const ATTEMPTED = 'create a user namespace'
const LIMIT_MS = 30_000

/**
 * Calls a function with the descriptor of a user namespace that has a mapping. The namespace exists until the function returns, and after that as long as
 * mounts use it. `unshare` of util-linux holds it meanwhile: a process with threads, such as this one, cannot create one.
 * @throws PROGRAM_FAILED, UNSUPPORTED_SYSTEM if this process may not map these IDs, CANCELED, and the errors of the function
 */
export async function withUserNamespace<T>(
  mapping: IdMapping,
  use: (fd: number) => T,
  signal?: AbortSignal,
): Promise<T> {
  throwIfAborted(signal, ATTEMPTED)
  const holder = spawn('unshare', ['--user', 'cat'], {
    stdio: ['pipe', 'pipe', 'pipe'],
    // Systems without these directories have it in the path of this process.
    env: { PATH: `/usr/sbin:/usr/bin:/sbin:/bin:${process.env['PATH'] ?? ''}` },
    timeout: LIMIT_MS,
    killSignal: 'SIGKILL',
  })
  try {
    await awaitEcho(holder, signal)
    writeRanges(holder, 'uid_map', mapping.uids)
    writeRanges(holder, 'gid_map', mapping.gids)
    const fd = openSync(`/proc/${holder.pid ?? 0}/ns/user`, constants.O_RDONLY)
    try {
      return use(fd)
    } finally {
      closeSync(fd)
    }
  } finally {
    holder.kill('SIGKILL')
  }
}

/** Once the program writes back what it reads, it is in its namespace. */
async function awaitEcho(holder: ChildProcess, signal: AbortSignal | undefined): Promise<void> {
  const ended = failureOf(holder)
  ended.catch(() => undefined)
  const { stdin, stdout } = holder
  // Without free descriptors there are no pipes, and the error is emitted later.
  const echo = stdin && stdout && once(stdout, 'data', { signal })
  if (echo) {
    // A program that has ended does not read; its end is noticed as such.
    stdin.on('error', () => undefined)
    stdin.write('\n')
    echo.catch(() => undefined)
  }
  try {
    await Promise.race(echo ? [echo, ended] : [ended])
  } catch (error) {
    throw toLoamError(error, ATTEMPTED, signal)
  }
}

/** Rejects when a program ends, or cannot be started. */
async function failureOf(holder: ChildProcess): Promise<never> {
  let said = ''
  holder.stderr?.on('data', (chunk: Buffer) => {
    said = `${said}${chunk.toString()}`.slice(0, 1000)
  })
  return new Promise((_resolve, reject) => {
    holder.once('error', (error) => {
      reject(isErrno(error, 'ENOENT') ? failed('it is not installed', 'Install util-linux.', error) : error)
    })
    holder.once('close', (status, by) => {
      const how = by === null ? `it ended with status ${status}` : `killed by ${by}`
      const hint =
        'A service or a container may forbid user namespaces; see also /proc/sys/user/max_user_namespaces.'
      reject(failed(said.trim() === '' ? how : `${how}: ${said.trim()}`, hint))
    })
  })
}

function failed(why: string, hint: string, cause?: Error): LoamError {
  return new LoamError('PROGRAM_FAILED', `${ATTEMPTED}: unshare: ${why}`, {
    hint,
    cause,
    details: { program: 'unshare' },
  })
}

/** The kernel takes all ranges with one write, and only one. */
function writeRanges(holder: ChildProcess, file: 'uid_map' | 'gid_map', ranges: readonly IdRange[]): void {
  try {
    writeFileSync(`/proc/${holder.pid ?? 0}/${file}`, formatRanges(ranges))
  } catch (error) {
    if (!isErrno(error, 'EPERM', 'EINVAL')) throw toLoamError(error, ATTEMPTED)
    throw new LoamError('UNSUPPORTED_SYSTEM', `${ATTEMPTED}: this process may not map these IDs`, {
      cause: error,
      hint: 'It needs CAP_SETUID and CAP_SETGID, and the IDs must be in its own user namespace (/proc/self/uid_map).',
    })
  }
}
