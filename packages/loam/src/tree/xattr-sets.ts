/** One xattr: full name and value, bytes both. */
export interface Xattr {
  readonly name: Buffer
  readonly value: Buffer
}

/** Sets of xattrs by number, equal ones kept once. Number 0 is the empty set. */
export class XattrSets {
  readonly #sets: (readonly Xattr[])[] = [[]]
  readonly #ids = new Map<string, number>([['', 0]])

  /** Returns the number of a set, whose order does not matter. */
  add(xattrs: readonly Xattr[]): number {
    const sorted = xattrs.toSorted((a, b) => a.name.compare(b.name))
    const key = keyOf(sorted)
    const known = this.#ids.get(key)
    if (known !== undefined) return known
    const id = this.#sets.push(sorted) - 1
    this.#ids.set(key, id)
    return id
  }

  /** Returns a set by its number, sorted by name; one object for equal sets. */
  get(id: number): readonly Xattr[] {
    return this.#sets[id] ?? []
  }
}

/** Returns a text that is unique to a set. Names and values hold any bytes, so each follows its length. */
function keyOf(xattrs: readonly Xattr[]): string {
  return xattrs
    .flatMap(({ name, value }) => [name, value])
    .map((bytes) => `${bytes.length}:${bytes.toString('latin1')}`)
    .join('')
}
