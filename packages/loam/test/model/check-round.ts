// One round of the random test, in the sizes in which it runs.
import { mkdtempSync, realpathSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { unmountAll } from '../../src/linux/index.ts'
import type { Random } from '../faults/random.ts'
import { checkCommits } from './check-commits.ts'
import { checkImage } from './check-image.ts'
import { checkTrees } from './check-trees.ts'
import { randomImage, randomShape } from './random-image.ts'

/**
 * The parts of a round:
 *   trees    images in memory alone, from tars and from indexes
 *   image    one image in all backends and exports
 *   commits  a container, changed and committed again and again
 */
export type RoundKind = 'trees' | 'image' | 'commits'
export const ROUND_KINDS: readonly RoundKind[] = ['trees', 'image', 'commits']

export interface RoundSize {
  /** Operations of a layer at most. */
  readonly entries: number
  readonly layers: number
  /** Images of a round in memory. */
  readonly images: number
  /** Changes of a container before each commit, and commits. */
  readonly changes: number
  readonly commits: number
}

/** Seconds, minutes, hours. */
export const SHORT: RoundSize = { entries: 220, layers: 6, images: 40, changes: 60, commits: 3 }
export const MIDDLE: RoundSize = { entries: 1700, layers: 20, images: 100, changes: 120, commits: 4 }
export const LONG: RoundSize = { entries: 70_000, layers: 60, images: 400, changes: 400, commits: 5 }

/** Returns the differences. */
export async function checkRound(kind: RoundKind, random: Random, size: RoundSize): Promise<string[]> {
  if (kind === 'trees') return checkManyTrees(random, size)
  const folder = realpathSync(mkdtempSync(join(tmpdir(), 'loam-model-')))
  try {
    const image = randomImage(random, randomShape(random, size))
    return kind === 'image'
      ? await checkImage(image, random, { folder, withExports: true })
      : await checkCommits(image, random, {
          folder,
          depth: size.commits,
          changes: size.changes,
          withExports: true,
        })
  } finally {
    unmountAll(folder)
    rmSync(folder, { recursive: true, force: true })
  }
}

function checkManyTrees(random: Random, { images, entries, layers }: RoundSize): string[] {
  for (let index = 0; index < images; index += 1) {
    // Most mistakes show in few operations, which make a short report.
    const few = index < images / 2
    const shape = randomShape(random, { entries: few ? 12 : entries, layers })
    const wrong = checkTrees(randomImage(random, shape))
    if (wrong.length > 0) return wrong
  }
  return []
}
