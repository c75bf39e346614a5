import { randomBytes } from 'node:crypto'
import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  renameSync,
  type Stats,
  statSync,
} from 'node:fs'
import { dirname, join } from 'node:path'
import { LoamError, toLoamError } from '../errors/index.ts'
import {
  findOutput,
  openOutput,
  type OutputTarget,
  removeTree,
  replaceExisting,
  syncDirectory,
} from '../linux/index.ts'

export interface OutputOptions {
  /** Directory that a relative output starts from; undefined or '' for that of this process. */
  readonly cwd?: string | undefined
  /** Options of an output: whether existing files may be replaced, and the permissions. */
  readonly mayReplace: (found: Stats) => boolean
  /** Overwrite an existing disk. */
  readonly force: boolean
  /** Permissions of the files; undefined for 0600. A user who may read a directory may also search it. */
  readonly mode?: number | undefined
  readonly signal?: AbortSignal | undefined
}

/**
 * Writes an output: every file for users goes through here. A plain file or folder is written in a private folder in the same directory, and gets its
 * name when it is complete and on the disk; nothing is left of it on failure. An existing one is removed only after that. It may contain private keys of a root filesystem, so other users may read it
 * only if `mode` allows that, whatever the umask and the programs that write it. Standard output (`-`), other descriptors, pipes and devices are
 * written to directly. @throws OUTPUT_EXISTS, OUTPUT_CLOSED, USAGE, CANCELED, and the errors of `make`
 */
export async function writeOutput(
  output: string,
  { cwd = '', mayReplace, force, mode, signal }: OutputOptions,
  make: (target: OutputTarget) => Promise<void>,
): Promise<void> {
  const resolved = findOutput(output, cwd)
  if (resolved.kind !== 'file') {
    if (mode !== undefined)
      throw new LoamError('USAGE', `write ${output}: --mode applies to new files, but this file exists`)
    if (resolved.kind === 'special' && resolved.isDisk && !force)
      throw outputExists(output, 'it is a disk', force)
    await using opened = await openOutput(resolved, signal)
    await make(opened.descriptor)
    return
  }
  const { path } = resolved
  if (statSync(dirname(path), { throwIfNoEntry: false })?.isDirectory() !== true) {
    const why = existsSync(dirname(path)) ? 'is not a directory' : 'does not exist'
    throw new LoamError('USAGE', `write ${path}: ${dirname(path)} ${why}`)
  }
  const found = lstatSync(path, { throwIfNoEntry: false })
  if (found !== undefined && !mayReplace(found)) throw outputExists(path, 'it exists already', force)
  const folder = `${path}.loam-${process.pid}-${randomBytes(4).toString('hex')}`
  try {
    mkdirSync(folder, { mode: 0o700 })
    const unfinished = join(folder, 'output')
    await make(unfinished)
    setModes(unfinished, mode ?? 0o600)
    await syncDirectory(folder)
    if (found?.isDirectory() === true) replaceExisting(unfinished, path, join(folder, 'replaced'))
    else renameSync(unfinished, path)
    await syncDirectory(dirname(path))
  } catch (error) {
    await discard(folder).catch(() => undefined)
    throw toLoamError(error, `write ${output}`)
  }
  await discard(folder)
}

/** Removes the private folder, and with it a replaced directory. Files of the user that are protected by flags stay there. */
async function discard(folder: string): Promise<void> {
  try {
    await removeTree(folder, { keepsProtected: true })
  } catch (error) {
    throw toLoamError(error, `remove ${folder}`)
  }
}

/** Sets the modes of an export: a file, or a layout of few folders. */
function setModes(path: string, mode: number): void {
  if (!lstatSync(path).isDirectory()) {
    chmodSync(path, mode)
    return
  }
  for (const name of readdirSync(path)) setModes(join(path, name), mode)
  chmodSync(path, mode | 0o700 | ((mode & 0o444) >> 2))
}

function outputExists(output: string, why: string, force: boolean): LoamError {
  const rest = force ? '; --force replaces only files that an export created' : ', or replace it with --force'
  return new LoamError('OUTPUT_EXISTS', `write ${output}: ${why}`, { hint: `Choose another output${rest}.` })
}
