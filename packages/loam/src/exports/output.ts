import { existsSync, lstatSync, renameSync, type Stats } from 'node:fs'
import { dirname } from 'node:path'
import { LoamError, toLoamError } from '../errors/index.ts'
import { findOutput, openOutput, type OutputTarget, removeTree, syncDirectory } from '../linux/index.ts'

export interface OutputOptions {
  /** Tells whether what is there may be replaced. */
  readonly mayReplace: (found: Stats) => boolean
  /** Write over a disk. */
  readonly force: boolean
  readonly signal?: AbortSignal | undefined
}

/**
 * Makes an output: every file for users goes through here. A plain file or folder is made under another name beside its own and gets that
 * when it is whole and on the disk; nothing is left of it on failure. Standard output (`-`), other descriptors, pipes and devices are
 * written to as they are. @throws OUTPUT_EXISTS, OUTPUT_CLOSED, USAGE, CANCELED, and what `make` throws
 */
export async function writeOutput(
  output: string,
  { mayReplace, force, signal }: OutputOptions,
  make: (target: OutputTarget) => Promise<void>,
): Promise<void> {
  const place = findOutput(output)
  if (place.kind !== 'file') {
    if (place.kind === 'special' && place.isDisk && !force) throw outputExists(output, 'it is a disk', force)
    await using opened = await openOutput(place, signal)
    await make(opened.descriptor)
    return
  }
  const { path } = place
  if (!existsSync(dirname(path))) {
    throw new LoamError('USAGE', `write ${path}: there is no directory ${dirname(path)}`)
  }
  const found = lstatSync(path, { throwIfNoEntry: false })
  if (found !== undefined && !mayReplace(found)) throw outputExists(path, 'it is there already', force)
  const unfinished = `${path}.loam-${process.pid}`
  removeTree(unfinished)
  try {
    await make(unfinished)
    if (found?.isDirectory() === true) removeTree(path)
    renameSync(unfinished, path)
    syncDirectory(dirname(path))
  } catch (error) {
    throw toLoamError(error, `write ${output}`)
  } finally {
    removeTree(unfinished)
  }
}

function outputExists(output: string, why: string, force: boolean): LoamError {
  const rest = force ? '; --force replaces only what an export may have made' : ', or replace it with --force'
  return new LoamError('OUTPUT_EXISTS', `write ${output}: ${why}`, { hint: `Choose another output${rest}.` })
}
