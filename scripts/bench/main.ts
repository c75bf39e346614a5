// npm run bench: cold pull to a ready root filesystem, a second one, destroying it, removing the image, and the disk used, beside
// the peers installed here; then reading through a root filesystem. Tools take turns, each run on a fresh ext4 in a loop
// device; medians of several runs; ratios to the fastest peer. Then the daemon beside containerd's own overlayfs snapshotter, a node with
// many small images, lazy pulls, and the daemon's API.
// `--bars` is the short form: the command and the newest containerd alone, medians of 5, and the daemon's API; see docs/benchmarks.md.
//   npm run bench -- --bars [--runs N] [--only IMAGE,IMAGE|daemon] [--out FILE.json]
//   npm run bench [-- --runs N] [--only IMAGE,IMAGE|snapshotter|scale|lazy[,IMAGE]|daemon|syncing|spans|library] [--tools NAME,NAME] [--no-reading] [--out FILE.json]
import { mkdirSync, statfsSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { IMAGE_NAMES, startRegistry } from './images.ts'
import { measure, median, ProcessGroup } from './measure.ts'
import { containerdTools } from './containerd.ts'
import { InstalledPrograms } from '../installed-programs.ts'
import { benchLibrary, warmLibraryTool } from './library.ts'
import { benchStart, isForBars, toTable } from './bars.ts'
import { benchLazy } from './lazy.ts'
import { benchReading } from './reading.ts'
import { benchScale } from './scale.ts'
import { benchSnapshotter } from './snapshotter.ts'
import { benchSpans } from './spans.ts'
import { benchSyncing } from './syncing.ts'
import { benchDaemon } from './daemon.ts'
import { type BenchTool, type Run, loamDaemonTool, loamTool, podmanTool, run, umociTool } from './tools.ts'

const repository = fileURLToPath(new URL('../../', import.meta.url))
const { values } = parseArgs({
  options: {
    runs: { type: 'string', default: '5' },
    only: { type: 'string' },
    tools: { type: 'string' },
    bars: { type: 'boolean', default: false },
    'no-reading': { type: 'boolean', default: false },
    out: { type: 'string' },
    folder: { type: 'string', default: join(repository, '.cache/bench') },
  },
})
const folder = values.folder
const runs = Number(values.runs)

using programs = new InstalledPrograms()
const loam = `${process.execPath} ${programs.loam}`
const loamd = programs.loamd
const registry = await startRegistry(folder)
const results: Record<string, Record<string, Run>> = {}
try {
  const only = values.only?.split(',')
  const isLazyOnly = only?.includes('lazy') === true
  const names = isLazyOnly ? [] : IMAGE_NAMES.filter((name) => only === undefined || only.includes(name))
  const tools = names.length === 0 ? [] : createTools()
  // Made and pushed before anything is measured.
  for (const name of names) registry.image(name)
  for (const name of names) {
    const own = values.bars ? tools.filter((tool) => isForBars(tool, name)) : tools
    results[name] = await benchImage(own, name, registry.image(name))
  }
  for (const [image, byTool] of Object.entries(results)) report(image, byTool)
  if (values.bars) {
    console.log(`\n${toTable(results)}\n\n${benchStart(loam)}`)
    if (only === undefined || only.includes('daemon')) await benchApi()
  } else await benchOthers()
} finally {
  registry.stop()
}
if (values.out !== undefined) writeFileSync(values.out, JSON.stringify(results, undefined, 2))

async function benchOthers(): Promise<void> {
  if (values.only === undefined || values.only === 'snapshotter') {
    await benchSnapshotter({ loamd, folder, runs, createDisk, removeDisk }, registry.image('small-files'))
  }
  if (values.only === undefined || values.only === 'scale')
    await benchScale({ loamd, folder, runs, createDisk, removeDisk }, registry.host)
  const asked = values.only?.split(',')
  if (asked === undefined || asked.includes('lazy'))
    await benchLazy({ loam, loamd, runs, cache: folder, createDisk, removeDisk, isWanted }, registry, asked)
  if (values.only === undefined || values.only === 'daemon') await benchApi()
  if (values.only === undefined || values.only === 'syncing')
    await benchSyncing({ loam, runs, createDisk, removeDisk }, registry.image('small-files'))
  if (values.only === undefined || values.only === 'spans') {
    registry.image('large-binaries')
    await benchSpans(join(folder, 'layout-large-binaries'), folder, runs)
  }
  if (values.only === undefined || values.only === 'library') await benchLibraryAndReading()
}

async function benchApi(): Promise<void> {
  await benchDaemon({ loamd, library: programs.client, createDisk, removeDisk })
}

async function benchLibraryAndReading(): Promise<void> {
  const disk = createDisk()
  try {
    console.log(
      `\nsecond root filesystem in the library: ${await benchLibrary(disk, registry.image('debian'))}`,
    )
    if (!values['no-reading']) await benchReading(loam, disk, registry)
  } finally {
    removeDisk(disk)
  }
}

/** Makes a fresh ext4 and returns where it is mounted. */
function createDisk(): string {
  const disk = join(folder, 'disk.img')
  const mount = join(folder, 'mnt')
  mkdirSync(mount, { recursive: true })
  run(`rm -f ${disk}; truncate -s 12G ${disk}; mkfs.ext4 -q ${disk}; mount -o loop ${disk} ${mount}; sync`)
  return mount
}

function removeDisk(mount: string): void {
  // The next fresh file system has the same inode numbers: a handler that still has this one's database open would take
  // the next one for its own when it closes it.
  const tries = `for try in $(seq 100); do umount -R ${mount} 2>/dev/null && exit; sleep 0.1; done; exit 1`
  run(`(${tries}) || umount -l ${mount}; rm -f ${join(folder, 'disk.img')}`)
}

function createTools(): BenchTool[] {
  const warmUpImages = [registry.image('tiny'), registry.image('debian')]
  const ours = [
    loamTool(loam),
    loamDaemonTool(loam, loamd, warmUpImages),
    warmLibraryTool(programs.library, warmUpImages),
  ]
  return [...ours, umociTool, podmanTool, ...containerdTools()].filter(({ name }) => isWanted(name))
}

function isWanted(name: string): boolean {
  return values.tools?.split(',').some((part) => name.startsWith(part)) ?? true
}

async function benchImage(
  tools: readonly BenchTool[],
  imageName: string,
  image: string,
): Promise<Record<string, Run>> {
  const all = new Map<string, Run[]>(tools.map(({ name }) => [name, []]))
  // The first round warms the registry's page cache and is not counted.
  for (let round = 0; round <= runs; round += 1) {
    for (const tool of tools) {
      const measurement = await benchOnce(tool, image)
      if (round > 0) all.get(tool.name)?.push(measurement)
      console.log(
        `${imageName} ${tool.name} ${round === 0 ? 'warm-up' : `run ${round}`}: ${measurement.wallSeconds.toFixed(2)} s`,
      )
    }
  }
  return Object.fromEntries([...all].map(([name, list]) => [name, medians(list)]))
}

async function benchOnce(tool: BenchTool, image: string): Promise<Run> {
  const mount = createDisk()
  using group = new ProcessGroup(`loam-bench-${process.pid}`)
  try {
    const usedBefore = usedBytes(mount)
    await tool.prepare(mount, group)
    const measurement = await measure(group, tool.command(mount, image))
    if (run(tool.check(mount)).trim() === '') throw new Error(`${tool.name} made nothing`)
    // Delayed writes count, too.
    run(`sync -f ${mount}`)
    const diskBytes = usedBytes(mount) - usedBefore
    const second = await measure(group, tool.second(mount, image))
    const destroy = await measure(group, tool.destroy(mount))
    const remove = await measure(group, tool.remove(mount, image))
    await tool.cleanUp(mount)
    return {
      ...measurement,
      diskBytes,
      secondSeconds: second.wallSeconds,
      destroySeconds: destroy.wallSeconds,
      removeSeconds: remove.wallSeconds,
    }
  } finally {
    removeDisk(mount)
  }
}

function usedBytes(mount: string): number {
  const { blocks, bfree, bsize } = statfsSync(mount)
  return (blocks - bfree) * bsize
}

function medians(list: readonly Run[]): Run {
  const of = (key: keyof Run) => median(list.map((one) => one[key]))
  return {
    wallSeconds: of('wallSeconds'),
    cpuSeconds: of('cpuSeconds'),
    peakBytes: of('peakBytes'),
    diskBytes: of('diskBytes'),
    secondSeconds: of('secondSeconds'),
    destroySeconds: of('destroySeconds'),
    removeSeconds: of('removeSeconds'),
  }
}

function report(image: string, byTool: Record<string, Run>): void {
  const peers = Object.entries(byTool).filter(([name]) => !name.startsWith('loam'))
  const fastest = Math.min(...peers.map(([, { wallSeconds }]) => wallSeconds))
  console.log(`\n${image} (medians of ${runs})`)
  console.log(
    'tool              pull s   to fastest peer   CPU s   peak MiB   disk MiB   second ms   destroy ms   remove ms',
  )
  for (const [name, one] of Object.entries(byTool)) {
    const cells = [
      one.wallSeconds.toFixed(2).padStart(6),
      `${(one.wallSeconds / fastest).toFixed(2)}x`.padStart(17),
      one.cpuSeconds.toFixed(2).padStart(7),
      (one.peakBytes / 2 ** 20).toFixed(0).padStart(10),
      (one.diskBytes / 2 ** 20).toFixed(0).padStart(10),
      (one.secondSeconds * 1000).toFixed(0).padStart(11),
      (one.destroySeconds * 1000).toFixed(0).padStart(12),
      (one.removeSeconds * 1000).toFixed(0).padStart(11),
    ]
    console.log(`${name.padEnd(16)} ${cells.join(' ')}`)
  }
}
