import { lstatSync } from 'node:fs'
import { posix } from 'node:path'
import { LoamError } from '../errors/index.ts'
import type { RuntimeMount } from '../runtime/index.ts'

/** @throws USAGE if two mounts have one target: only the last one would be seen */
export function checkTargets(targets: readonly string[]): void {
  const seen = new Set<string>()
  for (const target of targets) {
    const path = plainTarget(target)
    if (seen.has(path)) {
      throw new LoamError('USAGE', `mount at ${target}: two mounts have this target`, {
        hint: 'Leave out one of them, or give it another target.',
      })
    }
    seen.add(path)
  }
}

/**
 * Returns all mounts of a container in the order in which a runtime has to make them: a directory before what is mounted in it, which it would hide
 * otherwise. Of Loam's own mounts come those whose file can be covered, and that nothing else replaces.
 */
export function orderMounts(own: readonly RuntimeMount[], asked: readonly RuntimeMount[]): RuntimeMount[] {
  const kept = own.filter(({ destination }) => canCover(destination, asked))
  return [...kept, ...asked].toSorted((one, other) => depthOf(one) - depthOf(other))
}

/** The runtime would create a missing file in a directory of this machine that is mounted there. */
function canCover(path: string, asked: readonly RuntimeMount[]): boolean {
  if (asked.some(({ destination }) => plainTarget(destination) === path)) return false
  const above = asked
    .filter(({ destination }) => path.startsWith(posix.join(plainTarget(destination), '/')))
    .toSorted((one, other) => depthOf(one) - depthOf(other))
    .at(-1)
  if (above === undefined) return true
  if (above.type !== 'bind') return !above.options.includes('ro')
  const file = posix.join(above.source, path.slice(plainTarget(above.destination).length))
  return lstatSync(file, { throwIfNoEntry: false })?.isFile() === true
}

function depthOf({ destination }: Pick<RuntimeMount, 'destination'>): number {
  return plainTarget(destination)
    .split('/')
    .filter((part) => part !== '').length
}

function plainTarget(target: string): string {
  const path = posix.normalize(target)
  return path === '/' ? path : path.replace(/\/$/, '')
}
