import { existsSync, renameSync, type Stats } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { isErrno, LoamError, toLoamError } from '../errors/index.ts'
import {
  findOutput,
  HeldDirectory,
  type HeldFile,
  openOutput,
  type OutputTarget,
  replaceExisting,
  showHeld,
  syncDirectory,
} from '../linux/index.ts'
import { PrivateFolder, placeTaken } from './private-folder.ts'

export interface OutputOptions {
  /** Directory that a relative output starts from; undefined or '' for that of this process. */
  readonly cwd?: string | undefined
  /** Whether an existing file may be replaced. `path` leads to it, whatever has its name by now. */
  readonly mayReplace: (found: Stats, path: string) => boolean
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
  await writePlain(resolved.path, { output, mayReplace, force, mode }, make)
}

/** Everything is reached through descriptors of its directories: containers and other users may change what their names lead to, at any time. */
async function writePlain(
  path: string,
  { output, mayReplace, force, mode }: Omit<OutputOptions, 'cwd' | 'signal'> & { readonly output: string },
  make: (target: OutputTarget) => Promise<void>,
): Promise<void> {
  using parent = openParent(path)
  const name = basename(path)
  using existing = parent.find(name)
  if (existing !== undefined && !mayReplace(existing.stats, existing.path))
    throw outputExists(path, 'it exists already', force)
  using folder = PrivateFolder.make(parent, name)
  try {
    await make(folder.at(MADE))
    folder.setModes(MADE, mode ?? 0o600)
    await syncDirectory(folder.path)
    place(folder, parent, { name, existing })
    await syncDirectory(parent.path)
  } catch (error) {
    const shown = showHeld(toLoamError(error, `write ${output}`), [folder, parent])
    await folder.discard().catch(() => undefined)
    throw shown
  }
  await folder.discard()
}

/** Name of the unfinished output in its private folder. */
const MADE = 'output'
/** Name of the directory that it replaces, where names cannot be exchanged. */
const ASIDE = 'replaced'

function openParent(path: string): HeldDirectory {
  const directory = dirname(path)
  try {
    return HeldDirectory.open(directory)
  } catch (error) {
    if (!isErrno(error, 'ENOENT', 'ENOTDIR')) throw toLoamError(error, `write ${path}`)
    const why = existsSync(directory) ? 'is not a directory' : 'does not exist'
    throw new LoamError('USAGE', `write ${path}: ${directory} ${why}`, { cause: error })
  }
}

/** Gives the output its name. A directory that it replaces is in the private folder afterwards; a file or a symlink of that name is gone. */
function place(
  folder: PrivateFolder,
  parent: HeldDirectory,
  { name, existing }: { readonly name: string; readonly existing: HeldFile | undefined },
): void {
  if (existing?.stats.isDirectory() !== true) {
    renameSync(folder.at(MADE), parent.at(name))
    return
  }
  replaceExisting(folder.at(MADE), parent.at(name), folder.at(ASIDE))
  if (folder.has(MADE, existing) || folder.has(ASIDE, existing)) return
  // It is not the one that may be replaced, and goes back.
  const other = folder.list().includes(MADE) ? MADE : ASIDE
  replaceExisting(folder.at(other), parent.at(name), folder.at(`${ASIDE}-again`))
  throw placeTaken(join(parent.shown, name))
}

function outputExists(output: string, why: string, force: boolean): LoamError {
  const rest = force ? '; --force replaces only files that an export created' : ', or replace it with --force'
  return new LoamError('OUTPUT_EXISTS', `write ${output}: ${why}`, { hint: `Choose another output${rest}.` })
}
