// The attacker's process: runs its actions in a loop until it is killed, and reports their number. Paths may disappear at any time.
import { spawnSync } from 'node:child_process'
import { mkdirSync, renameSync, rmSync, symlinkSync, unlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setImmediate } from 'node:timers/promises'
import koffi from 'koffi'
import type { Trick } from './attack.ts'

const tricks = JSON.parse(process.argv[2] ?? '[]') as Trick[]
const MAX_LINGER_MS = 4
const CLOCK = new Int32Array(new SharedArrayBuffer(4))
const AT_FDCWD = -100
const RENAME_EXCHANGE = 2
/** Node has no name for it. An overlay returns it for a name whose directory was removed below it. */
const ESTALE = -116
const renameat2 = koffi
  .load('libc.so.6')
  .func('int renameat2(int a, const char *from, int b, const char *to, uint32_t flags)')
const TRICKS = { swap, exchange, move, replace }

let turns = 0
for (;;) {
  for (const trick of tricks) {
    if (play(trick)) turns += 1
  }
  process.send?.(turns)
  // Messages are sent between two turns.
  await setImmediate()
}

function play(trick: Trick): boolean {
  try {
    TRICKS[trick.kind](trick as never)
    return true
  } catch (error) {
    const { code = '', errno } = error as NodeJS.ErrnoException
    if (errno === ESTALE) return false
    // A file that is being created, removed or mounted may be missing or busy.
    if (
      !['ENOENT', 'EBUSY', 'EEXIST', 'ENOTEMPTY', 'ENOTDIR', 'EISDIR', 'EROFS', 'EINVAL', 'EXDEV'].includes(
        code,
      )
    )
      throw error
    return false
  }
}

function exchange({ path, other }: Extract<Trick, { kind: 'exchange' }>): void {
  renameat2(AT_FDCWD, path, AT_FDCWD, other, RENAME_EXCHANGE)
  linger()
  renameat2(AT_FDCWD, path, AT_FDCWD, other, RENAME_EXCHANGE)
  linger()
}

function move({ path, other }: Extract<Trick, { kind: 'move' }>): void {
  renameSync(path, other)
  linger()
  renameSync(other, path)
  linger()
}

function replace({ path, symlink }: Extract<Trick, { kind: 'replace' }>): void {
  const makers = [
    () => {
      writeFileSync(path, 'own')
    },
    () => {
      symlinkSync(symlink, path)
    },
    () => {
      spawnSync('mkfifo', [path])
    },
    () => {
      mkdirSync(path)
      writeFileSync(join(path, 'file'), 'own')
    },
  ]
  makers[Math.floor(Math.random() * makers.length)]?.()
  linger()
  rmSync(path, { recursive: true, force: true })
}

function swap({ path, symlink }: Extract<Trick, { kind: 'swap' }>): void {
  renameSync(path, `${path}.aside`)
  symlinkSync(symlink, path)
  linger()
  unlinkSync(path)
  renameSync(`${path}.aside`, path)
  linger()
}

/** Neither state may be too short to be met, nor always last equally long. */
function linger(): void {
  Atomics.wait(CLOCK, 0, 0, Math.random() ** 3 * MAX_LINGER_MS)
}
