import { existsSync, readdirSync, renameSync } from 'node:fs'
import { join } from 'node:path'
import { setAside } from './artifacts.ts'
import type { StorePaths } from './store-paths.ts'

/** Tables of version 10 and later use these names for a stack's directories. */
const RENAMED_IN_10 = [
  ['patch', 'fixup'],
  ['whole', 'flat'],
] as const

/**
 * Renames the directories whose names have changed. Mounts keep their files. It is called before the tables are
 * changed, and again after a crash between both: a directory that has its new name already stays.
 */
export function upgradeStoreFiles(paths: StorePaths, fromVersion: number): void {
  if (fromVersion >= 10 || !existsSync(paths.images)) return
  for (const chainId of readdirSync(paths.images)) {
    for (const [before, now] of RENAMED_IN_10) {
      const old = join(paths.images, chainId, before)
      if (!existsSync(old)) continue
      const target = join(paths.images, chainId, now)
      // An earlier version has rebuilt it after a crash in here; containers may use the existing one.
      if (existsSync(target)) setAside(target)
      renameSync(old, target)
    }
  }
}
