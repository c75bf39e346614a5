/** Returns how many letters have to be inserted, deleted, changed, or swapped with the next one. */
export function editDistance(from: string, to: string): number {
  let before: number[] = []
  let above = Array.from({ length: to.length + 1 }, (_, index) => index)
  for (let row = 1; row <= from.length; row += 1) {
    const here = [row]
    for (let column = 1; column <= to.length; column += 1) {
      const isSame = from[row - 1] === to[column - 1]
      const isSwap = row > 1 && from[row - 1] === to[column - 2] && from[row - 2] === to[column - 1]
      here[column] = Math.min(
        (above[column] ?? 0) + 1,
        (here[column - 1] ?? 0) + 1,
        (above[column - 1] ?? 0) + Number(!isSame),
        isSwap ? (before[column - 2] ?? 0) + 1 : Number.POSITIVE_INFINITY,
      )
    }
    before = above
    above = here
  }
  return above[to.length] ?? 0
}

const MAX_DISTANCE = 2
const MAX_NAMES = 3
/** Longer words are no slips of the keyboard, and cost their square to compare. */
const MAX_LENGTH = 300
const MAX_CANDIDATES = 5000

/** Returns the names that a word may be a misspelling or a part of, the likeliest first, at most three. `partsOf` returns the spellings of a name. */
export function findNear(
  word: string,
  names: readonly string[],
  partsOf: (name: string) => readonly string[] = (name) => [name],
): string[] {
  if (word === '' || word.length > MAX_LENGTH) return []
  const distances = names.slice(0, MAX_CANDIDATES).map((name) => ({
    name,
    distance: Math.min(...partsOf(name).map((part) => distanceOf(word, part))),
  }))
  const near = distances.filter(({ distance }) => distance <= MAX_DISTANCE)
  return near
    .toSorted((a, b) => a.distance - b.distance)
    .slice(0, MAX_NAMES)
    .map(({ name }) => name)
}

/** A short name is not another one for want of most of its letters. */
function distanceOf(word: string, part: string): number {
  if (Math.abs(word.length - part.length) > MAX_DISTANCE) return Infinity
  const distance = editDistance(word, part)
  return distance <= Math.floor(Math.min(part.length, word.length) / 3) || distance === 0
    ? distance
    : Infinity
}
