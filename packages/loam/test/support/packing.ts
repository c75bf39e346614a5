// Files in the packings that Node has no writer for.
import { execFileSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'

/** Writes a tar as it is. */
export function tarOf(folder: string, tar: Buffer): string {
  const path = join(folder, 'plain.tar')
  writeFileSync(path, tar)
  return path
}

/** Writes bytes packed by a program. */
export function packedBy(program: 'bzip2' | 'xz', folder: string, bytes: Buffer): string {
  const path = join(folder, `packed.${program}`)
  writeFileSync(path, execFileSync(program, ['-c', '-1'], { input: bytes, maxBuffer: 256 << 20 }))
  return path
}
