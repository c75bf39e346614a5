import { chmodSync, existsSync, lstatSync, mkdirSync, readdirSync, renameSync, type Stats } from 'node:fs'
import { dirname, join } from 'node:path'
import { LoamError, toLoamError } from '../errors/index.ts'
import { findOutput, openOutput, type OutputTarget, removeTree, syncDirectory } from '../linux/index.ts'

export interface OutputOptions {
  /** Tells whether what is there may be replaced. */
  readonly mayReplace: (found: Stats) => boolean
  /** Write over a disk. */
  readonly force: boolean
  /** Permissions of the files that are made; undefined for 0600. Directories may also be searched by whoever may read them. */
  readonly mode?: number | undefined
  readonly signal?: AbortSignal | undefined
}

/**
 * Makes an output: every file for users goes through here. A plain file or folder is made in a folder of this process's user beside its own
 * name and gets that when it is whole and on the disk; nothing is left of it on failure. It holds what a root filesystem holds, private keys
 * among it, so that others may read it only where `mode` says so, whatever the umask and the programs that make it. Standard output (`-`), other descriptors, pipes and devices are
 * written to as they are. @throws OUTPUT_EXISTS, OUTPUT_CLOSED, USAGE, CANCELED, and what `make` throws
 */
export async function writeOutput(
  output: string,
  { mayReplace, force, mode, signal }: OutputOptions,
  make: (target: OutputTarget) => Promise<void>,
): Promise<void> {
  const resolved = findOutput(output)
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
  if (!existsSync(dirname(path))) {
    throw new LoamError('USAGE', `write ${path}: directory ${dirname(path)} does not exist`)
  }
  const found = lstatSync(path, { throwIfNoEntry: false })
  if (found !== undefined && !mayReplace(found)) throw outputExists(path, 'it exists already', force)
  const folder = `${path}.loam-${process.pid}`
  const unfinished = join(folder, 'output')
  await removeTree(folder)
  try {
    mkdirSync(folder, { mode: 0o700 })
    await make(unfinished)
    setModes(unfinished, mode ?? 0o600)
    await syncDirectory(folder)
    if (found?.isDirectory() === true) await removeTree(path, { keepsProtected: true })
    renameSync(unfinished, path)
    await syncDirectory(dirname(path))
  } catch (error) {
    throw toLoamError(error, `write ${output}`)
  } finally {
    await removeTree(folder)
  }
}

/** Of an export: a file, or a layout of few folders. */
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
