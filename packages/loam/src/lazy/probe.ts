import { closeSync, ftruncateSync, mkdirSync, openSync, readSync, writeSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Probe } from '../backends/index.ts'
import { canInflateSpans } from '../compression/index.ts'
import { deviceTag, writeErofs } from '../erofs/index.ts'
import { isErrno, toLoamError } from '../errors/index.ts'
import { digestOf, parseDiffId } from '../image/index.ts'
import {
  ALLOW_READ,
  answerRead,
  kernelRelease,
  markReads,
  mountErofs,
  openReadGroup,
  parseReadEvent,
  READ_EVENT_BYTES,
  removeTree,
  unmountAll,
} from '../linux/index.ts'
import { formatTarHeader, tarEnd, TarReader } from '../tar/index.ts'
import { applyLayer, DEFAULT_LAYER_LIMITS, FileTree, LayerTreeBuilder } from '../tree/index.ts'

const NAME = 'file'
const DATA_BYTES = 4096
const LOOK_AGAIN_MS = 2
/** Something is used up. */
const SCARCE = ['EMFILE', 'ENFILE', 'ENOSPC', 'EDQUOT', 'ENOMEM']

/** The result of a try. */
export type LazyProbe = Probe & {
  /** It may work soon: the kernel and the file system can, and something else failed. */
  readonly isPassing?: true
}

/**
 * Returns whether this machine can pull lazily. Tries it with one file, from the mark to the read through a mount, in a directory on the file
 * system of the store that it creates and removes.
 */
export async function probeLazy(directory: string): Promise<LazyProbe> {
  if (!canInflateSpans())
    return no('the zlib and zstd of this Node cannot be called, which decompress parts of a layer')
  try {
    mkdirSync(directory, { mode: 0o700 })
    return await tryOut(directory)
  } catch (error) {
    return { ...no(toLoamError(error, 'try a lazy pull').message), isPassing: true }
  } finally {
    unmountAll(join(directory, 'mount'))
    await removeTree(directory)
  }
}

/** Returns a function that tries once, and says why it does not work; it tries again after a failure that may pass. */
export function keepProbe(probe: () => Promise<LazyProbe>): () => Promise<string | undefined> {
  let tried: Promise<string | undefined> | undefined
  const tryOnce = async () => {
    const result = await probe()
    if (result.isPassing === true) tried = undefined
    return result.isSupported ? undefined : result.reason
  }
  return async () => (tried ??= tryOnce())
}

/** Returns why no reads can wait on this machine; undefined if they may. Its file systems are not tried. */
export function whyNoReads(): string | undefined {
  try {
    closeSync(openReadGroup({ isBlocking: false }))
    return undefined
  } catch (error) {
    if (isErrno(error, 'EPERM')) return 'only root of the machine may let reads wait'
    if (isErrno(error, 'EINVAL', 'ENOSYS'))
      return `the kernel ${kernelRelease()} cannot let reads wait (Linux 6.14, CONFIG_FANOTIFY_ACCESS_PERMISSIONS)`
    // What else fails is found by a whole try.
    return undefined
  }
}

function no(reason: string): LazyProbe {
  return { isSupported: false, reason }
}

async function tryOut(directory: string): Promise<LazyProbe> {
  const why = whyNoReads()
  if (why !== undefined) return no(why)
  const { tar, image } = writeLayer(directory)
  const group = openReadGroup({ isBlocking: false })
  const fd = openSync(tar, 'r+')
  try {
    try {
      markReads(group, fd)
    } catch (error) {
      if (isErrno(error, 'ENOTSUP', 'EINVAL')) return no('the file system of the store cannot let reads wait')
      throw error
    }
    const mount = join(directory, 'mount')
    mkdirSync(mount)
    try {
      mountErofs({ image, devices: [tar], target: mount, by: 'file' })
    } catch (error) {
      const result = no(`EROFS images cannot be mounted from files: ${toLoamError(error, 'mount').message}`)
      return isErrno(error, ...SCARCE) ? { ...result, isPassing: true } : result
    }
    return await readThrough(join(mount, NAME), { group, fd })
  } finally {
    // Whoever still waits goes on.
    closeSync(group)
    closeSync(fd)
  }
}

/** The read is in a thread of its own; this one answers it after the data was written. */
async function readThrough(path: string, { group, fd }: { group: number; fd: number }): Promise<LazyProbe> {
  const reading = readFile(path)
  let isRead = false
  reading.finally(() => (isRead = true)).catch(() => undefined)
  const event = await nextEvent(group, () => isRead)
  if (event === undefined) return no('a read through the mount did not wait for its data')
  const data = Buffer.alloc(DATA_BYTES, 'loam')
  writeSync(fd, data, 0, DATA_BYTES, 512)
  for (let next: number | undefined = event; next !== undefined; next = readEvent(group)) {
    answerRead(group, next, ALLOW_READ)
    closeSync(next)
  }
  return (await reading).equals(data)
    ? { isSupported: true }
    : no('a read through the mount got other bytes than were written')
}

/** Returns the descriptor of the next event; undefined if the read ends without one. A busy machine may take seconds for it. */
async function nextEvent(group: number, isRead: () => boolean): Promise<number | undefined> {
  for (;;) {
    const wasRead = isRead()
    const fd = readEvent(group)
    if (fd !== undefined || wasRead) return fd
    await sleep(LOOK_AGAIN_MS)
  }
}

function readEvent(group: number): number | undefined {
  const bytes = Buffer.alloc(READ_EVENT_BYTES)
  try {
    readSync(group, bytes)
  } catch (error) {
    if (isErrno(error, 'EAGAIN')) return undefined
    throw error
  }
  return parseReadEvent(bytes, 0)?.fd
}

/** A layer with one file, of whose tar only the size is here. */
function writeLayer(directory: string): { tar: string; image: string } {
  const header = formatTarHeader({
    name: Buffer.from(NAME),
    type: 'file',
    mode: 0o600,
    sizeBytes: DATA_BYTES,
    linkName: Buffer.alloc(0),
    xattrs: [],
  })
  const bytes = Buffer.concat([header, Buffer.alloc(DATA_BYTES), tarEnd()])
  const builder = new LayerTreeBuilder(DEFAULT_LAYER_LIMITS)
  const reader = new TarReader((entry) => {
    builder.add(entry)
  })
  reader.write(bytes)
  reader.end()
  const tree = new FileTree()
  applyLayer(tree, builder.tree, 0)
  const [tar, image] = [join(directory, 'tar'), join(directory, 'image')]
  const fds = [openSync(tar, 'wx'), openSync(image, 'wx')] as const
  ftruncateSync(fds[0], bytes.length)
  writeErofs(tree, {
    contents: 'merged',
    data: 'tar',
    layers: [{ tag: deviceTag(parseDiffId(digestOf(bytes))), sizeBytes: bytes.length }],
    readData: (_layer, offset, target) => {
      bytes.copy(target, 0, offset)
    },
    write: (chunk) => {
      writeSync(fds[1], chunk)
    },
  })
  for (const fd of fds) closeSync(fd)
  return { tar, image }
}
