// The attacker's process: does its tricks in a loop until it is killed, and tells how often. Paths may go at any time.
import { renameSync, symlinkSync, unlinkSync } from 'node:fs'
import { setImmediate } from 'node:timers/promises'
import type { Trick } from './attack.ts'

const tricks = JSON.parse(process.argv[2] ?? '[]') as Trick[]
const MAX_LINGER_MS = 4
const CLOCK = new Int32Array(new SharedArrayBuffer(4))

let turns = 0
for (;;) {
  for (const trick of tricks) {
    if (play(trick)) turns += 1
  }
  process.send?.(turns)
  // Messages go out between two turns.
  await setImmediate()
}

function play(trick: Trick): boolean {
  try {
    swap(trick)
    return true
  } catch (error) {
    const { code = '' } = error as NodeJS.ErrnoException
    // What is being made, removed or mounted may be missing or busy.
    if (
      !['ENOENT', 'EBUSY', 'EEXIST', 'ENOTEMPTY', 'ENOTDIR', 'EISDIR', 'EROFS', 'EINVAL', 'EXDEV'].includes(
        code,
      )
    )
      throw error
    return false
  }
}

function swap({ path, symlink }: Trick): void {
  renameSync(path, `${path}.aside`)
  symlinkSync(symlink, path)
  linger()
  unlinkSync(path)
  renameSync(`${path}.aside`, path)
  linger()
}

/** Neither state may be too short to be met, nor always last as long. */
function linger(): void {
  Atomics.wait(CLOCK, 0, 0, Math.random() ** 3 * MAX_LINGER_MS)
}
