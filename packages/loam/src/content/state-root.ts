import { join, resolve } from 'node:path'
import { LoamError, toLoamError } from '../errors/index.ts'
import { createDirectories, examinePath } from '../linux/index.ts'

/** The directories that Loam makes in a state directory. */
const OWN_DIRECTORIES: readonly string[] = ['bundles', 'images', 'lazy', 'mapped', 'runtime', 'starts']
/** Users pass through it to a socket or a bundle that is for them; they cannot list it. */
const PASSABLE = 0o711

/**
 * Checks a state directory before anything in it is used, and creates one that others could create first, as in /tmp: processes start from what is in it.
 * @throws STORE_UNSAFE, and system errors
 */
export function openStateRoot(state: string): void {
  const path = resolve(state)
  try {
    if (requireTrusted(path, path).mayBeTaken === true) {
      createDirectories(path, PASSABLE)
      requireTrusted(path, path)
    }
  } catch (error) {
    throw toLoamError(error, `open state directory ${path}`)
  }
}

/** Returns why others may change what is in a state directory, which may be missing; creates nothing. */
export function findUnsafeState(state: string): string | undefined {
  const path = resolve(state)
  try {
    requireTrusted(path, path)
    return undefined
  } catch (error) {
    return toLoamError(error, `open state directory ${path}`).message
  }
}

function requireTrusted(state: string, path: string): ReturnType<typeof examinePath> {
  const trust = examinePath(path)
  if (trust.untrusted !== undefined) {
    throw new LoamError('STORE_UNSAFE', `open state directory ${state}: ${trust.untrusted}`, {
      hint: 'Processes start from what is in it, so only root and the user of Loam may write to it and to all directories above it. Choose another --state, or change its owner and mode.',
    })
  }
  if (path === state && trust.found !== undefined)
    for (const name of OWN_DIRECTORIES) requireTrusted(state, join(trust.found, name))
  return trust
}
