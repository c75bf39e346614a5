import type { TimeSlice } from '../linux/index.ts'

/** Items that are sorted or merged at once. */
const RUN = 500

/** Sorts as `toSorted`, also stable, and lets other work run meanwhile. */
export async function sortedInSlices<T extends object>(
  items: readonly T[],
  compare: (a: T, b: T) => number,
  slice: TimeSlice,
): Promise<T[]> {
  await slice.rest()
  if (items.length <= RUN) return items.toSorted(compare)
  const middle = items.length >> 1
  const first = await sortedInSlices(items.slice(0, middle), compare, slice)
  const second = await sortedInSlices(items.slice(middle), compare, slice)
  return merged(first, second, compare, slice)
}

async function merged<T extends object>(
  first: readonly T[],
  second: readonly T[],
  compare: (a: T, b: T) => number,
  slice: TimeSlice,
): Promise<T[]> {
  const all: T[] = []
  let at = 0
  for (const item of second) {
    for (let next = first[at]; next !== undefined && compare(next, item) <= 0; next = first[at]) {
      all.push(next)
      at += 1
      if (all.length % RUN === 0) await slice.rest()
    }
    all.push(item)
    if (all.length % RUN === 0) await slice.rest()
  }
  return [...all, ...first.slice(at)]
}
