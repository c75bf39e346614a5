import { S_IFBLK, S_IFCHR, S_IFDIR, S_IFIFO, S_IFLNK, S_IFMT, S_IFREG } from '../tree/index.ts'

/** Types of entries of a file tree. */
export type FileType = 'file' | 'directory' | 'symlink' | 'character' | 'block' | 'fifo'

const TYPES: ReadonlyMap<number, FileType> = new Map([
  [S_IFREG, 'file'],
  [S_IFDIR, 'directory'],
  [S_IFLNK, 'symlink'],
  [S_IFCHR, 'character'],
  [S_IFBLK, 'block'],
  [S_IFIFO, 'fifo'],
])

/** Returns the type of a tar entry for a file's mode, or for the part of it that is the type. */
export function entryTypeOf(mode: number): FileType {
  return TYPES.get(mode & S_IFMT) ?? 'file'
}
