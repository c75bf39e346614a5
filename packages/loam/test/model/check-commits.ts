// Containers that are changed at random and committed, again and again: a commit shows the same as the container.
import { join } from 'node:path'
import { buildImage, listTree, writeOciLayout } from '../../src/testing/index.ts'
import type { Random } from '../faults/random.ts'
import { attempt, listExport, type Loam, openStore } from './check-image.ts'
import { difference } from './difference.ts'
import { onlyShared } from './image-model.ts'
import { changeTree } from './random-changes.ts'
import type { RandomImage } from './random-image.ts'

const BACKENDS = ['erofs', 'overlay', 'copy'] as const

export interface CommitOptions {
  readonly folder: string
  /** Number of commits on each other. */
  readonly depth: number
  /** Number of changes before each. */
  readonly changes: number
  readonly withExports: boolean
}

/** Returns the differences. */
export async function checkCommits(
  image: RandomImage,
  random: Random,
  options: CommitOptions,
): Promise<string[]> {
  const { folder, depth, changes } = options
  const layout = join(folder, 'layout-of-commits')
  writeOciLayout(layout, { base: buildImage({ tars: image.tars, compression: 'none' }) })
  await using loam = await openStore(join(folder, 'store-of-commits'))
  const wrong: string[] = []
  let name = `oci:${layout}:base`
  for (let level = 1; level <= depth; level += 1) {
    const backend = random.pick(['erofs', 'overlay'] as const)
    const { rootfsPath } = await loam.provision(name, { id: 'changed', backend })
    changeTree(rootfsPath, random, changes)
    const shown = listTree(rootfsPath)
    const committed = `changed:${level}`
    const what = `commit ${level} of a container by ${backend}`
    const found = await attempt(what, async () => {
      await loam.images.commit('changed', committed)
      return compareBackends(loam, committed, { what, shown })
    })
    wrong.push(...found)
    if (options.withExports) wrong.push(...(await compareExports(loam, { folder, shown, what })))
    await loam.destroy('changed')
    // After a wrong commit the following ones prove nothing.
    if (found.length > 0) break
    name = committed
  }
  return wrong
}

async function compareBackends(
  loam: Loam,
  image: string,
  { what, shown }: { what: string; shown: readonly string[] },
): Promise<string[]> {
  const wrong: string[] = []
  let first: string[] | undefined
  for (const backend of BACKENDS) {
    const where = `${what}, shown by ${backend}`
    const found = await attempt(where, async () => {
      const { rootfsPath } = await loam.provision(image, { id: 'shown', backend, isReadOnly: true })
      try {
        const listed = onlyShared(listTree(rootfsPath))
        first ??= listed
        return [
          ...difference(where, withoutLinks(listed), withoutLinks(shown)),
          ...difference(`${where}, beside ${BACKENDS[0]}`, listed, first),
        ]
      } finally {
        await loam.destroy('shown')
      }
    })
    wrong.push(...found)
  }
  return wrong
}

async function compareExports(
  loam: Loam,
  { folder, shown, what }: { folder: string; shown: readonly string[]; what: string },
): Promise<string[]> {
  const wrong: string[] = []
  for (const format of ['erofs', 'tar', 'oci', 'ext4'] as const) {
    const where = `${what}, exported as ${format}`
    wrong.push(
      ...(await attempt(where, async () =>
        difference(
          where,
          withoutLinks(await listExport(loam, 'changed', { format, folder })),
          withoutLinks(shown),
        ),
      )),
    )
  }
  return wrong
}

/** A running overlay shows a file of the image and a new link to it as two inodes. */
function withoutLinks(lines: readonly string[]): string[] {
  return lines.map((line) => line.replace(/ same=".*"$/, ''))
}
