// fsck.erofs of erofs-utils, which checks images in addition to the kernel.
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { existsSync, openSync, readSync, closeSync } from 'node:fs'
import { testTool } from './test-tools.ts'

/** Debian 12's reads only blocks of 4 KiB; scripts/fetch-test-tools.sh unpacks a newer one here. */
const NEWER = testTool('erofs-utils', 'fsck.erofs')
const hasNewer = existsSync(NEWER)
if (!hasNewer) console.log(`there is no ${NEWER}: images of 512-byte blocks are judged by the kernel alone`)

/** Checks an image and its extracted data by each fsck.erofs that can read it. */
export function fsckErofs(image: string, devices: readonly string[]): void {
  const programs = readBlockBits(image) === 12 ? ['fsck.erofs', NEWER] : [NEWER]
  for (const program of programs) {
    if (program === NEWER && !hasNewer) continue
    const args = ['--extract', ...devices.map((device) => `--device=${device}`), image]
    const { status, stdout, stderr } = spawnSync(program, args, { encoding: 'utf8' })
    assert.equal(status, 0, `${program}: ${stdout}${stderr}`)
  }
}

function readBlockBits(image: string): number {
  const byte = Buffer.alloc(1)
  const fd = openSync(image, 'r')
  readSync(fd, byte, 0, 1, 1024 + 12)
  closeSync(fd)
  return byte[0] ?? 0
}
