// Unpacks a tar of a user into a directory that is there.
import { closeSync, createReadStream, mkdirSync, openSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { decompress } from '../compression/index.ts'
import { LoamError } from '../errors/index.ts'
import { type DiffId, parseDiffId } from '../image/index.ts'
import { type IdMapping, isRoot, openDirectory } from '../linux/index.ts'
import {
  describeLeftOutXattrs,
  type FileTree,
  type LayerLimits,
  LayerTreeBuilder,
  NONE,
  overLimit,
  S_LOWER_LINK,
} from '../tree/index.ts'
import { copyTree, type MountBelow } from './copy-tree.ts'
import type { PackReport } from './folder-reader.ts'
import { scanTarFile } from './read-layer.ts'
import { writeTree } from './write-tree.ts'

/** The tar has no digest that anything asks for. */
const NO_DIGEST: DiffId = parseDiffId(`sha256:${'0'.repeat(64)}`)

export interface UnpackOptions {
  /** File of the tar, compressed or not. */
  readonly packed: string
  /** A new directory for unfinished work; the caller removes it. */
  readonly directory: string
  /** Descriptor of the directory to unpack into. */
  readonly target: number
  /** Mounts beneath that directory, as for `copyTree`. */
  readonly mounts: readonly MountBelow[]
  /** The user namespace of the container whose directory it is. Undefined: that of this process. */
  readonly idMapping: IdMapping | undefined
  readonly limits: LayerLimits
  readonly canceled: Int32Array
  /** Throws to end the work. */
  readonly check: () => void
}

/**
 * Unpacks a tar: its paths are decided in memory as those of a layer, but names that begin with `.wh.` are names. The files are written aside, and
 * then copied as `copyTree` does. Owners and attributes are those of the tar where this user may give them. @throws TAR_INVALID, TAR_UNSAFE,
 * LAYER_LIMIT, COMPRESSION_INVALID, and as `copyTree`
 */
export async function unpackTar(options: UnpackOptions): Promise<PackReport> {
  const { directory, target, mounts, idMapping, limits, canceled, check } = options
  mkdirSync(directory, { mode: 0o700 })
  const tarPath = join(directory, 'tar')
  await unpackFile(tarPath, options)
  const builder = new LayerTreeBuilder(limits, { hasWhiteouts: false })
  scanTarFile(tarPath, (entry) => {
    builder.add(entry)
  })
  requireTargets(builder.tree)
  const files = join(directory, 'files')
  mkdirSync(files, { mode: 0o700 })
  const layer = { diffId: NO_DIGEST, tarPath, metaPath: undefined, clonePath: undefined }
  writeTree(builder.tree, { target: files, layers: [layer], whiteouts: 'none', canceled })
  const source = openDirectory(files)
  try {
    const place = { source, target, mounts, name: undefined, owner: undefined, idMapping }
    const { leftOut } = copyTree({ ...place, keepsOwners: isRoot(), check })
    const withLess = builder.leftOutXattrs
    return { leftOut: withLess === undefined ? leftOut : [describeLeftOutXattrs(withLess), ...leftOut] }
  } finally {
    closeSync(source)
  }
}

/** A tar of a user has no layers below it, whose files a hard link may name. @throws TAR_INVALID */
function requireTargets(tree: FileTree): void {
  for (let entry = 0; entry < tree.entryCount; entry += 1) {
    const inode = tree.entryInode(entry)
    if (inode === NONE || tree.type(inode) !== S_LOWER_LINK) continue
    const [link, target] = [tree.entryPath(entry), tree.linkTarget(inode)].map((path) => path.toString())
    throw new LoamError(
      'TAR_INVALID',
      `unpack the tar: the hard link ${JSON.stringify(link)} names ${JSON.stringify(target)}, which is no file of the tar`,
      { hint: 'Make a tar that has both names.' },
    )
  }
}

async function unpackFile(tarPath: string, { packed, limits, check }: UnpackOptions): Promise<void> {
  const fd = openSync(tarPath, 'wx', 0o600)
  try {
    let bytes = 0
    for await (const chunk of decompress(createReadStream(packed))) {
      check()
      bytes += chunk.length
      if (bytes > limits.tarBytes) throw overLimit('read the tar', 'tarBytes', limits.tarBytes)
      for (let done = 0; done < chunk.length; ) done += writeSync(fd, chunk, done)
    }
  } finally {
    closeSync(fd)
  }
}
