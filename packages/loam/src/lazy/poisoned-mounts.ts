import type { StorePaths } from '../content/index.ts'
import { toLoamError } from '../errors/index.ts'
import { deviceTag } from '../erofs/index.ts'
import type { DiffId } from '../image/index.ts'
import { readDeviceTags } from '../layers/index.ts'
import { type MountEntry, readMountTable, unmountEach } from '../linux/index.ts'
import { report } from './report.ts'

/** Returns whether a mount shows a merged image of a store. */
export function showsImageOf({ images }: StorePaths, { type, source }: MountEntry): boolean {
  return type === 'erofs' && source.startsWith(`${images}/`)
}

/**
 * Unmounts what may have shown holes of these partial layers of a store as zeros, because their reads waited for nobody for
 * a while: the mounts of their stacks and the root filesystems above these. Another store may have the same layers,
 * complete: its mounts stay. Returns their mount points. Processes that use one keep it. @throws SYSTEM for a mount that
 * others hide
 */
export function unmountPoisoned(paths: StorePaths, diffIds: readonly DiffId[]): string[] {
  if (diffIds.length === 0) return []
  const tags = new Set(diffIds.map(deviceTag))
  const table = readMountTable()
  const stacks = new Set(
    table.filter((mount) => showsImageOf(paths, mount) && shows(mount, tags)).map(({ target }) => target),
  )
  if (stacks.size === 0) return []
  const isPoisoned = (mount: MountEntry) =>
    mount.type === 'erofs' ? stacks.has(mount.target) : mount.type === 'overlay' && isAbove(mount, stacks)
  const poisoned = table.filter(isPoisoned).map(({ target }) => target)
  unmountEach((now) => now.filter(isPoisoned).toReversed())
  return poisoned
}

/** Returns whether the image of a mount has one of the devices. */
function shows({ source }: MountEntry, tags: ReadonlySet<string>): boolean {
  try {
    return readDeviceTags(source).some((tag) => tags.has(tag))
  } catch {
    // The image is not one of Loam's, or is gone; it has no table that could be read.
    return false
  }
}

function isAbove({ superOptions }: MountEntry, stacks: ReadonlySet<string>): boolean {
  return [...stacks].some((target) => superOptions.split(/[,:=]/).includes(target))
}

/** The same, and reports it. Never throws: the reads of all other layers wait for this process. */
export function unmountAndReport(
  diffIds: readonly DiffId[],
  unmount: (diffIds: readonly DiffId[]) => readonly string[],
): readonly string[] {
  try {
    const poisoned = unmount(diffIds)
    for (const path of poisoned)
      report(`unmounted ${path}: it may have shown wrong data, because no process let its reads wait`)
    return poisoned
  } catch (error) {
    report(toLoamError(error, 'unmount what may have shown wrong data').message)
    return []
  }
}
