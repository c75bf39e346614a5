// Reading through a root filesystem: the erofs backend beside the same tree on overlayfs over ext4, on one disk.
import { fileURLToPath } from 'node:url'
import type { BenchRegistry } from './images.ts'
import { median } from './measure.ts'
import { run } from './tools.ts'

const ROUNDS = 15
const READ_IMAGES = ['debian', 'small-files', 'large-binaries'] as const

const RANDOM_READS = fileURLToPath(new URL('random-reads.ts', import.meta.url))

/** Prints medians, and how erofs compares. */
export async function benchReading(loam: string, folder: string, registry: BenchRegistry): Promise<void> {
  const call = `${loam} --root ${folder}/reading --state ${folder}/reading-state --quiet`
  console.log(`\nreading, erofs to overlay over ext4 (medians of ${ROUNDS}, s)`)
  for (const [name, image] of READ_IMAGES.map((each) => [each, registry.image(each)] as const)) {
    const paths = ['overlay', 'erofs'].map((backend) =>
      run(`${call} provision --id ${name}-${backend} --backend ${backend} ${image}`).trim(),
    )
    run(`sync -f ${folder}`)
    for (const [what, command] of Object.entries(commandsFor(name))) {
      for (const isCold of [true, false]) {
        const [overlay, erofs] = compare(paths.map(command), isCold)
        const cells = [
          overlay.toFixed(3).padStart(8),
          erofs.toFixed(3).padStart(8),
          `${(erofs / overlay).toFixed(2)}x`,
        ]
        console.log(
          `${name.padEnd(15)} ${what.padEnd(14)} ${(isCold ? 'cold' : 'warm').padEnd(5)} ${cells.join(' ')}`,
        )
      }
    }
    for (const backend of ['overlay', 'erofs']) run(`${call} destroy ${name}-${backend}`)
  }
}

/** Returns the median of each of two commands, which take turns. */
function compare(commands: readonly string[], isCold: boolean): [number, number] {
  const times: number[][] = [[], []]
  for (let round = 0; round < ROUNDS; round += 1) {
    for (const [which, command] of commands.entries()) times[which]?.push(timeOf(command, isCold))
  }
  return [median(times[0] ?? []), median(times[1] ?? [])]
}

function commandsFor(image: string): Record<string, (path: string) => string> {
  const commands: Record<string, (path: string) => string> = {
    'all files': (path) => `find ${path} -xdev -type f -print0 | xargs -0 cat > /dev/null`,
    find: (path) => `find ${path} -xdev -size +1k > /dev/null`,
  }
  if (image !== 'small-files') {
    commands['random 4 KiB'] = (path) => `${process.execPath} ${RANDOM_READS} ${path}`
  }
  if (image === 'debian')
    commands['exec'] = (path) => `chroot ${path} /usr/bin/python3 -c 'import json, http.client'`
  return commands
}

function timeOf(command: string, isCold: boolean): number {
  if (isCold) run('sync; echo 3 > /proc/sys/vm/drop_caches')
  const start = performance.now()
  run(command)
  return (performance.now() - start) / 1000
}
