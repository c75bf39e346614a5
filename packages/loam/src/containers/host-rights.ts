import { statfsSync } from 'node:fs'
import { resolve } from 'node:path'
import { LoamError, toLoamError } from '../errors/index.ts'
import {
  boundingCapabilities,
  hostPlatform,
  idsOfNamespace,
  kernelRelease,
  limitControllers,
  readRegular,
} from '../linux/index.ts'
import {
  capabilitiesOf,
  type HostRights,
  parseSeccompProfile,
  type SeccompProfile,
} from '../runtime/index.ts'

const MAX_PROFILE_BYTES = 1 << 20

/** Reports the user who runs containers here, and the rights that containers may get: those of this process, or `capabilities`. */
export function hostRights(
  capabilities: readonly string[] = capabilitiesOf(boundingCapabilities()),
): HostRights {
  return {
    architecture: hostPlatform().architecture,
    kernel: kernelRelease(),
    capabilities,
    uid: process.geteuid?.() ?? 0,
    gid: process.getegid?.() ?? 0,
    namespace: idsOfNamespace(),
    limits: limitControllers(),
  }
}

/** Reads a seccomp profile that a user names, by a path from `cwd`. @throws USAGE */
export function readSeccompProfile(path: string, cwd: string): SeccompProfile {
  return parseSeccompProfile(readProfile(path, cwd), path)
}

function readProfile(path: string, cwd: string): Buffer {
  try {
    return readRegular(resolve(cwd, path), MAX_PROFILE_BYTES, 'USAGE')
  } catch (error) {
    const { message } = toLoamError(error, `read ${path}`)
    throw new LoamError('USAGE', `use seccomp profile ${path}: ${message}`, {
      cause: error,
      hint: 'Give seccomp=FILE with the path of a profile, or seccomp=unconfined.',
    })
  }
}

/** linux/magic.h */
const NSFS_MAGIC = 0x6e736673

/** Checks that a namespace to join exists. @throws USAGE */
export function checkNamespace(path: string): void {
  let why = 'it is not a namespace'
  try {
    if (statfsSync(path).type === NSFS_MAGIC) return
  } catch (error) {
    why = toLoamError(error, 'look at it').message
  }
  throw new LoamError('USAGE', `use network ns:${path}: ${why}`, {
    hint: 'Give ns:/run/netns/NAME for a namespace that `ip netns add NAME` or CNI created.',
  })
}
