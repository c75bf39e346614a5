import { existsSync, rmSync } from 'node:fs'

/**
 * Removes a directory of a test whose programs may still remove their own files from it, as an agent of gpg does when its directory is gone:
 * Node's `rmSync` then stops, and reports nothing.
 */
export function removeTree(path: string): void {
  do rmSync(path, { recursive: true, force: true, maxRetries: 5 })
  while (existsSync(path))
}
