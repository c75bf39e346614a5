import { join, resolve } from 'node:path'
import { LoamError, toLoamError } from '../errors/index.ts'
import { createDirectories, examinePath, type PathTrust } from '../linux/index.ts'

/** The directories that Loam makes in a state directory. */
const OWN_DIRECTORIES: readonly string[] = ['bundles', 'images', 'lazy', 'mapped', 'runtime', 'starts']
/** Users pass through it to a socket or a bundle that is for them; they cannot list it. */
const PASSABLE = 0o711

/**
 * Checks a state directory before anything in it is used: processes start from what is in it. What others could create first is created here: the directory in
 * one such as /tmp, and those in it if it is such a one itself, as a new tmpfs is. @throws STORE_UNSAFE, and system errors
 */
export function openStateRoot(state: string): void {
  const path = resolve(state)
  try {
    const { found, mayBeTaken } = requireTrusted(path)
    if (mayBeTaken !== true) return
    if (found === undefined) createDirectories(path, PASSABLE)
    else for (const name of OWN_DIRECTORIES) createDirectories(join(found, name))
    requireTrusted(path)
  } catch (error) {
    throw toLoamError(error, `open state directory ${path}`)
  }
}

/** Returns why others may change what is in a state directory, which may be missing; creates nothing. */
export function findUnsafeState(state: string): string | undefined {
  const path = resolve(state)
  try {
    requireTrusted(path)
    return undefined
  } catch (error) {
    return toLoamError(error, `open state directory ${path}`).message
  }
}

/** In a sticky directory nobody can replace those that are there already. */
function requireTrusted(state: string): PathTrust {
  const trust = examinePath(state, true)
  const within = trust.found === undefined ? [] : OWN_DIRECTORIES.map((name) => join(state, name))
  for (const { untrusted } of [trust, ...within.map((path) => examinePath(path))]) {
    if (untrusted === undefined) continue
    throw new LoamError('STORE_UNSAFE', `open state directory ${state}: ${untrusted}`, {
      hint: 'Processes start from what is in it, so only root and the user of Loam may write to it and to all directories above it. Choose another --state, or change its owner and mode.',
    })
  }
  return trust
}
