import { closeSync, mkdirSync, openSync, readFileSync, writeFileSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import type { IngestArea } from '../../content/index.ts'
import { writeErofs } from '../../erofs/index.ts'
import { isMachineRoot, kernelRelease, mountErofs, removeTreeSync, unmountAll } from '../../linux/index.ts'
import { FileTree, ROOT, S_IFREG } from '../../tree/index.ts'
import type { Probe } from '../backend.ts'
import { probeFailure } from '../probe-failure.ts'

/** The first kernel that supports images with several devices. */
const OLDEST_KERNEL = { major: 5, minor: 16 }
const BLOCK_BYTES = 512
const PROBE_DATA = Buffer.alloc(BLOCK_BYTES, 'loam')

/** Returns whether this machine can mount a file that lies in another file. Mounts one to find out, since no list of kernels is complete. @throws NO_SPACE */
export function probeErofs(ingest: IngestArea): Probe {
  if (!isMachineRoot()) return { isSupported: false, reason: 'mounting EROFS needs root of the machine' }
  const release = kernelRelease()
  if (isTooOld(release)) {
    const { major, minor } = OLDEST_KERNEL
    return {
      isSupported: false,
      reason: `Linux ${release} cannot mount EROFS images of several devices; ${major}.${minor} is the first version that can`,
    }
  }
  const base = ingest.newPath('probe')
  const target = join(base, 'target')
  try {
    mkdirSync(target, { recursive: true })
    const [image, device] = writeProbe(base)
    mountErofs({ image, devices: [device], target })
    if (readFileSync(join(target, 'file')).equals(PROBE_DATA)) return { isSupported: true }
    return {
      isSupported: false,
      reason: `Linux ${release} mounts an EROFS image but reads wrong data from it`,
    }
  } catch (error) {
    return { isSupported: false, reason: explain(error, release) }
  } finally {
    unmountAll(target)
    removeTreeSync(base)
  }
}

/** Returns whether a kernel of this version lacks support. */
export function isTooOld(release: string): boolean {
  const [major = 0, minor = 0] = release.split('.').map(Number)
  return major < OLDEST_KERNEL.major || (major === OLDEST_KERNEL.major && minor < OLDEST_KERNEL.minor)
}

function explain(error: unknown, release: string): string {
  const message = probeFailure(error, 'mount')
  if (message.includes('ENODEV'))
    return `Linux ${release} does not have EROFS enabled (CONFIG_EROFS_FS, module erofs)`
  return message
}

function writeProbe(base: string): [image: string, device: string] {
  const image = join(base, 'image')
  const device = join(base, 'device')
  // The data begins at a multiple of 512 bytes that is not one of 4096.
  writeFileSync(device, Buffer.concat([Buffer.alloc(BLOCK_BYTES), PROBE_DATA]))
  const tree = new FileTree()
  const attributes = { ...tree.attributes(ROOT), mode: S_IFREG | 0o644 }
  const data = { layer: 0, sizeBytes: BLOCK_BYTES, offset: BLOCK_BYTES, segments: undefined }
  tree.setEntry(ROOT, Buffer.from('file'), tree.createFile(attributes, data))
  const fd = openSync(image, 'wx')
  try {
    writeErofs(tree, {
      data: 'tar',
      contents: 'merged',
      layers: [{ tag: 'probe', sizeBytes: 2 * BLOCK_BYTES }],
      readData: () => undefined,
      write: (chunk) => {
        writeSync(fd, chunk)
      },
    })
  } finally {
    closeSync(fd)
  }
  return [image, device]
}
