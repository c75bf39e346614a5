// npm run bench: cold pull to a ready root filesystem, beside the peers installed here. Tools take turns, each run on a
// fresh ext4 in a loop device; medians of several runs; ratios to the fastest peer.
//   npm run bench [-- --runs N] [--only IMAGE] [--out FILE.json]
import { cpSync, mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { type BenchRegistry, startRegistry } from './images.ts'
import { type Measurement, measure, ProcessGroup } from './measure.ts'
import { type BenchTool, containerdTool, loamTool, podmanTool, run, umociTool } from './tools.ts'

const repository = fileURLToPath(new URL('../../', import.meta.url))
const { values } = parseArgs({
  options: {
    runs: { type: 'string', default: '3' },
    only: { type: 'string' },
    out: { type: 'string' },
    folder: { type: 'string', default: '/var/tmp/loam-bench' },
  },
})
const folder = values.folder
const runs = Number(values.runs)

const tools = [loamTool(installLoam()), umociTool, podmanTool, containerdTool]
const registry = await startRegistry(folder, 5055)
const results: Record<string, Record<string, Measurement>> = {}
try {
  for (const image of Object.keys(registry.images)) {
    if (values.only === undefined || values.only === image) results[image] = await benchImage(registry, image)
  }
} finally {
  registry.stop()
}
for (const [image, byTool] of Object.entries(results)) report(image, byTool)
if (values.out !== undefined) writeFileSync(values.out, JSON.stringify(results, undefined, 2))

/** Runs what users install, not the sources: built, beside node_modules, with the pinned Node. */
function installLoam(): string {
  run(`cd ${repository} && npm run --silent build`)
  const installed = join(repository, 'node_modules/.cache/loam-bench')
  rmSync(installed, { recursive: true, force: true })
  mkdirSync(installed, { recursive: true })
  for (const part of ['bin', 'dist', 'package.json']) {
    cpSync(join(repository, 'packages/loam', part), join(installed, part), { recursive: true })
  }
  return `${process.execPath} ${installed}/bin/loam.js`
}

async function benchImage({ images }: BenchRegistry, image: string): Promise<Record<string, Measurement>> {
  const all = new Map<string, Measurement[]>(tools.map(({ name }) => [name, []]))
  // The first round warms the registry's page cache and is not counted.
  for (let round = 0; round <= runs; round += 1) {
    for (const tool of tools) {
      const measurement = await benchOnce(tool, images[image] ?? '')
      if (round > 0) all.get(tool.name)?.push(measurement)
      console.log(
        `${image} ${tool.name} ${round === 0 ? 'warm-up' : `run ${round}`}: ${measurement.wallSeconds.toFixed(2)} s`,
      )
    }
  }
  return Object.fromEntries([...all].map(([name, list]) => [name, medians(list)]))
}

async function benchOnce(tool: BenchTool, image: string): Promise<Measurement> {
  const disk = join(folder, 'disk.img')
  const mount = join(folder, 'mnt')
  mkdirSync(mount, { recursive: true })
  run(`rm -f ${disk}; truncate -s 8G ${disk}; mkfs.ext4 -q ${disk}; mount -o loop ${disk} ${mount}; sync`)
  using group = new ProcessGroup(`loam-bench-${process.pid}`)
  try {
    await tool.prepare(mount, group)
    const measurement = await measure(group, tool.command(mount, image))
    if (run(tool.check(mount)).trim() === '') throw new Error(`${tool.name} made nothing`)
    await tool.cleanUp(mount)
    return measurement
  } finally {
    run(`umount -R ${mount} || umount -l ${mount}; rm -f ${disk}`)
  }
}

function medians(list: readonly Measurement[]): Measurement {
  const of = (key: keyof Measurement) =>
    list.map((one) => one[key]).toSorted((a, b) => a - b)[Math.floor(list.length / 2)] ?? 0
  return {
    wallSeconds: of('wallSeconds'),
    cpuSeconds: of('cpuSeconds'),
    peakBytes: of('peakBytes'),
  }
}

function report(image: string, byTool: Record<string, Measurement>): void {
  const peers = Object.entries(byTool).filter(([name]) => name !== 'loam')
  const fastest = Math.min(...peers.map(([, { wallSeconds }]) => wallSeconds))
  console.log(`\n${image} (medians of ${runs})`)
  console.log('tool              wall s   to fastest peer   CPU s   peak MiB')
  for (const [name, { wallSeconds, cpuSeconds, peakBytes }] of Object.entries(byTool)) {
    const cells = [wallSeconds.toFixed(2).padStart(6), `${(wallSeconds / fastest).toFixed(2)}x`.padStart(17)]
    console.log(
      `${name.padEnd(16)} ${[...cells, cpuSeconds.toFixed(2).padStart(7), (peakBytes / 2 ** 20).toFixed(0).padStart(10)].join(' ')}`,
    )
  }
}
