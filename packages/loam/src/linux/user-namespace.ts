import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, constants, openSync, writeFileSync } from 'node:fs'
import { isErrno, LoamError } from '../errors/index.ts'
import { formatRanges, type IdMapping, type IdRange } from './id-mapping.ts'

/**
 * Calls a function with the descriptor of a user namespace that has a mapping. The namespace exists until the function returns, and after that as long as
 * mounts use it. A program holds it meanwhile: a process with threads, such as this one, cannot create one.
 * @throws PROGRAM_FAILED if util-linux is not installed, system errors, EINVAL or EPERM among them for a mapping that the kernel refuses
 */
export async function withUserNamespace<T>(mapping: IdMapping, use: (fd: number) => T): Promise<T> {
  const holder = spawn('unshare', ['--user', 'cat'], {
    stdio: ['pipe', 'pipe', 'ignore'],
    env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin' },
  })
  try {
    await awaitEcho(holder)
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
async function awaitEcho(holder: ChildProcess): Promise<void> {
  const { stdin, stdout } = holder
  if (stdin === null || stdout === null) throw new LoamError('INTERNAL', 'create a user namespace: no pipes')
  // A program that has ended does not read; its end is noticed below.
  stdin.on('error', () => undefined)
  stdin.write('\n')
  const ended = once(holder, 'exit').then(([status]) => {
    throw new LoamError('PROGRAM_FAILED', `create a user namespace: unshare ended with status ${status}`, {
      hint: 'User namespaces may be forbidden: see /proc/sys/user/max_user_namespaces.',
      details: { program: 'unshare' },
    })
  })
  ended.catch(() => undefined)
  try {
    await Promise.race([once(stdout, 'data'), ended])
  } catch (error) {
    if (!isErrno(error, 'ENOENT')) throw error
    throw new LoamError('PROGRAM_FAILED', 'create a user namespace: unshare is not installed', {
      hint: 'Install util-linux.',
      cause: error,
      details: { program: 'unshare' },
    })
  }
}

/** The kernel takes all ranges with one write, and only one. */
function writeRanges(holder: ChildProcess, file: 'uid_map' | 'gid_map', ranges: readonly IdRange[]): void {
  writeFileSync(`/proc/${holder.pid ?? 0}/${file}`, formatRanges(ranges))
}
