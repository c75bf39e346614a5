/*
 * Folders that other threads make and remove, for threads that serve others: each name may have to wait for the file system's journal.
 */
import { mkdir, rmdir } from 'node:fs/promises'
import { isErrno } from '../errors/index.ts'

/** Makes folders in existing ones, all at the same time, with what is missing between them. @throws the first system error */
export async function createFolders(paths: readonly string[], mode = 0o700): Promise<void> {
  await Promise.all(paths.map(async (path) => mkdir(path, { recursive: true, mode })))
}

/**
 * Removes folders that are expected to be empty: those of one level at the same time, one level after the other. Returns false if one of
 * them is left, for whatever reason; then those of later levels are not tried.
 */
export async function removeFolders(...levels: readonly (readonly string[])[]): Promise<boolean> {
  for (const level of levels) {
    const gone = await Promise.all(level.map(removeFolder))
    if (gone.includes(false)) return false
  }
  return true
}

async function removeFolder(path: string): Promise<boolean> {
  try {
    await rmdir(path)
    return true
  } catch (error) {
    return isErrno(error, 'ENOENT')
  }
}
