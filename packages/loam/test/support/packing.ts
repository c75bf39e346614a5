// Files in the compressions that Node has no writer for.
import { execFileSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'

/** Writes a tar uncompressed. */
export function tarOf(folder: string, tar: Buffer): string {
  const path = join(folder, 'plain.tar')
  writeFileSync(path, tar)
  return path
}

/** Compresses bytes by a program and writes them. */
export function packedBy(program: 'bzip2' | 'xz', folder: string, bytes: Buffer): string {
  const path = join(folder, `packed.${program}`)
  writeFileSync(path, execFileSync(program, ['-c', '-1'], { input: bytes, maxBuffer: 256 << 20 }))
  return path
}
