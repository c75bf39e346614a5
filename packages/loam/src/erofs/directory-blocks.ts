import { DIRENT_BYTES } from './format.ts'

/** The blocks of a directory's names. */
export interface DirectoryShape {
  readonly blocks: number
  /** Bytes used in the last block. */
  readonly lastBytes: number
}

/** Cuts a list of names into blocks: returns the first index behind each block. A name never spans two. */
export function* cutNames(
  nameBytes: ArrayLike<number>,
  blockBytes: number,
): Generator<{ end: number; usedBytes: number }> {
  let usedBytes = 0
  for (let index = 0; index < nameBytes.length; index += 1) {
    const bytes = DIRENT_BYTES + (nameBytes[index] ?? 0)
    if (usedBytes + bytes > blockBytes) {
      yield { end: index, usedBytes }
      usedBytes = 0
    }
    usedBytes += bytes
  }
  yield { end: nameBytes.length, usedBytes }
}

export function directoryShape(nameBytes: ArrayLike<number>, blockBytes: number): DirectoryShape {
  let blocks = 0
  let lastBytes = 0
  for (const { usedBytes } of cutNames(nameBytes, blockBytes)) {
    blocks += 1
    lastBytes = usedBytes
  }
  return { blocks, lastBytes }
}
