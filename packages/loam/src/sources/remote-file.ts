/*
 * Fetching files by their address: https:// and http://, hdfs:// through the hadoop command, file:// and paths.
 */
import { existsSync, statSync } from 'node:fs'
import { isAbsolute, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { LoamError, throwIfAborted } from '../errors/index.ts'
import { SequentialWriter } from '../content/index.ts'
import { findProgram, runProgram, kindOf, toolEnvironment } from '../linux/index.ts'
import type { FileClient } from '../registry/index.ts'

/** A copy of gigabytes may take hours; the caller can cancel it. */
const HADOOP_TIMEOUT_MS = 6 * 3_600_000

export interface HadoopClient {
  /** Folder with `bin/hadoop`; undefined to look in PATH. */
  readonly home: string | undefined
  readonly path: string
}

export interface RemoteFileOptions {
  readonly files: FileClient
  readonly hadoop: HadoopClient
  /** Returns a path for a new file. The owner of the path removes the file. */
  readonly newPath: () => string
  /** The web page that names the file. It may not name an address nearer to this machine than its own. */
  readonly namedBy?: URL | undefined
  /** Called at intervals with the progress of a file from another machine. */
  readonly onFetch?: ((address: string, receivedBytes: number, isDone: boolean) => void) | undefined
}

/** Returns whether a text is an address and not a path. */
export function isAddress(text: string): boolean {
  return /^(?:https?|hdfs|file):\/\//.test(text)
}

/** Returns whether an address holds a user and a password. */
export function holdsPassword(address: string): boolean {
  return /^https?:\/\/[^/]*@/.test(address)
}

/** Returns an address that may be shown and stored. Queries are left out: they contain signatures and keys. */
export function withoutQuery(address: string): string {
  return address.replace(/[?#].*$/s, '')
}

/**
 * Returns a path from which the file of an address can be read: its own if it is local, else that of a copy.
 * @throws SOURCE_NOT_FOUND, SOURCE_INVALID, IMAGE_NOT_FOUND, REGISTRY_*
 */
export async function fetchFile(
  address: string,
  options: RemoteFileOptions,
  signal?: AbortSignal,
): Promise<string> {
  if (isAbsolute(address) || address.startsWith('file://')) return localPath(address)
  const path = options.newPath()
  if (address.startsWith('hdfs://')) {
    // hadoop would expand a pattern to other files.
    if (/[*?#{}[\]\\]/.test(address))
      throw new LoamError('SOURCE_NOT_FOUND', `copy ${address}: it is a pattern, expected a regular file`)
    await copyFromHadoop(address, path, options.hadoop, signal)
    return path
  }
  if (holdsPassword(address))
    throw new LoamError(
      'SOURCE_INVALID',
      `get ${address}: it contains a password; Loam does not log in to web servers`,
    )
  await using writer = new SequentialWriter(path)
  const shown = withoutQuery(address)
  let receivedBytes = 0
  const { namedBy } = options
  for await (const chunk of options.files.stream(new URL(address), signal, { namedBy })) {
    receivedBytes += chunk.length
    options.onFetch?.(shown, receivedBytes, false)
    await writer.write(chunk)
  }
  await writer.flush()
  options.onFetch?.(shown, receivedBytes, true)
  return path
}

/** @throws SOURCE_NOT_FOUND, SOURCE_INVALID for a file:// of another machine */
function localPath(address: string): string {
  let path = address
  if (!isAbsolute(address)) {
    try {
      path = fileURLToPath(address)
    } catch (error) {
      throw new LoamError('SOURCE_INVALID', `read ${address}: it is not a path of this machine`, {
        cause: error,
      })
    }
  }
  const stats = statSync(path, { throwIfNoEntry: false })
  if (stats === undefined) throw new LoamError('SOURCE_NOT_FOUND', `read ${path}: it does not exist`)
  if (stats.isFile() || stats.isDirectory()) return path
  throw new LoamError('SOURCE_INVALID', `read ${path}: it is ${kindOf(stats)}, expected a regular file`)
}

async function copyFromHadoop(
  address: string,
  path: string,
  { home, path: searchPath }: HadoopClient,
  signal: AbortSignal | undefined,
): Promise<void> {
  const program = home === undefined ? findProgram('hadoop', searchPath) : join(home, 'bin', 'hadoop')
  if (program === undefined || !existsSync(program)) {
    throw new LoamError('SOURCE_INVALID', `copy ${address}: the hadoop command was not found`, {
      hint: 'Install a Hadoop client and set --hadoop_home (or HADOOP_HOME) to its directory.',
    })
  }
  const { status, stderr } = await runProgram(program, ['fs', '-copyToLocal', address, path], {
    timeoutMs: HADOOP_TIMEOUT_MS,
    env: { ...toolEnvironment(searchPath), ...(home === undefined ? {} : { HADOOP_HOME: home }) },
    signal,
  })
  throwIfAborted(signal, `copy ${address}`)
  if (status === 0 && existsSync(path)) return
  const words = stderr.trim().slice(-500)
  const code = /No such file/.test(words) ? 'SOURCE_NOT_FOUND' : 'SOURCE_INVALID'
  throw new LoamError(code, `copy ${address}: hadoop exited with status ${status} (${words})`)
}
