// Lazy pulls beside eager ones and stargz-snapshotter: the time until the root filesystem is ready, until the first commands in it have run, and
// until all of it was read; from a registry on loopback, and behind 20 ms and 50 MB/s. Each run has a fresh file system and a warm daemon.
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import type { BenchRegistry, ImageName } from './images.ts'
import type { LazyTool } from './lazy-tool.ts'
import { median } from './measure.ts'
import { type StargzTool, stargzTool } from './stargz.ts'
import { run, startLoamd, stopLoamd } from './tools.ts'

const ONE_WAY_MS = 10
const BYTES_PER_SECOND = 50_000_000
const LINES = ['loopback', '20 ms, 50 MB/s'] as const
const SLOW_LINE = fileURLToPath(new URL('slow-line.ts', import.meta.url))
const IMAGES = ['debian', 'small-files', 'large-binaries'] as const satisfies readonly ImageName[]

export interface LazyBench {
  readonly loam: string
  readonly loamd: string
  readonly runs: number
  /** Directory of what is built once. */
  readonly cache: string
  readonly createDisk: () => string
  readonly removeDisk: (disk: string) => void
  /** Whether a tool of this name takes part. */
  readonly isWanted: (name: string) => boolean
}

interface Times {
  readonly ready: number
  /** With the time until it was ready. */
  readonly commands: number
  readonly readAll: number
}

/** Prints medians in seconds: of the images that are named, or of all. */
export async function benchLazy(
  bench: LazyBench,
  registry: BenchRegistry,
  names: readonly string[] | undefined,
): Promise<void> {
  const asked = IMAGES.filter((name) => names?.includes(name))
  const images = asked.length === 0 ? IMAGES : asked
  const stargz = bench.isWanted('stargz-snapshotter') ? stargzTool(bench.cache) : undefined
  const tools = [
    loamLazyTool(bench, 'loam eager', '--eager'),
    loamLazyTool(bench, 'loam lazy', '--lazy'),
    ...(stargz === undefined ? [] : [stargz]),
  ].filter(({ name }) => bench.isWanted(name))
  await publish(bench, images, registry, stargz)
  const line = await startSlowLine(registry.host)
  try {
    for (const image of images) {
      for (const name of LINES) {
        const host = name === 'loopback' ? registry.host : line.host
        await compare(bench, tools, { name, image, host, registry })
      }
    }
  } finally {
    line.stop()
  }
}

/** Makes the lazy indexes of the images, and pushes them beside these; and the images of stargz-snapshotter. */
async function publish(
  { loam, createDisk, removeDisk }: LazyBench,
  images: readonly ImageName[],
  registry: BenchRegistry,
  stargz: StargzTool | undefined,
): Promise<void> {
  const disk = createDisk()
  try {
    // The first one is also what daemons are warmed up with.
    for (const image of new Set<ImageName>(['debian', ...images])) {
      const reference = registry.image(image)
      const start = performance.now()
      run(`${loam} --root ${disk}/store --state ${disk}/state --quiet index --push ${reference}`)
      console.log(`${image}: its lazy indexes took ${((performance.now() - start) / 1000).toFixed(1)} s`)
      await stargz?.convert(disk, reference)
    }
  } finally {
    removeDisk(disk)
  }
}

async function compare(
  bench: LazyBench,
  tools: readonly LazyTool[],
  of: {
    readonly name: string
    readonly image: ImageName
    readonly host: string
    readonly registry: BenchRegistry
  },
): Promise<void> {
  const all = new Map<string, Times[]>(tools.map(({ name }) => [name, []]))
  for (let round = 0; round <= bench.runs; round += 1) {
    for (const tool of tools) {
      const times = await runOnce(bench, tool, of)
      // The first round warms the registry's page cache.
      if (round > 0) all.get(tool.name)?.push(times)
    }
  }
  console.log(`\n${of.image}, ${of.name}: ready, first commands, everything read (s)`)
  for (const [name, times] of all) {
    const cell = (pick: (each: Times) => number) => median(times.map(pick)).toFixed(2).padStart(7)
    const cells = [
      cell(({ ready }) => ready),
      cell(({ commands }) => commands),
      cell(({ readAll }) => readAll),
    ]
    console.log(`${name.padEnd(22)} ${cells.join(' ')}`)
  }
}

async function runOnce(
  bench: LazyBench,
  tool: LazyTool,
  {
    image,
    host,
    registry,
  }: { readonly image: ImageName; readonly host: string; readonly registry: BenchRegistry },
): Promise<Times> {
  const folder = bench.createDisk()
  try {
    await tool.prepare(folder, registry.image('debian'))
    const reference = registry.image(image).replace(registry.host, host)
    const start = performance.now()
    const seconds = () => (performance.now() - start) / 1000
    const path = run(tool.provision(folder, reference)).trim()
    const ready = seconds()
    for (const command of firstCommands(image)) run(command(path))
    const commands = seconds()
    run(`find ${path} -xdev -type f -print0 | xargs -0 cat > /dev/null`)
    return { ready, commands, readAll: seconds() }
  } finally {
    await tool.cleanUp(folder)
    bench.removeDisk(folder)
  }
}

/** What is done first in a container, for each image. */
function firstCommands(image: ImageName): readonly ((path: string) => string)[] {
  const list = (path: string) => `ls -R ${path} > /dev/null`
  if (image === 'debian')
    return [
      (path) => `chroot ${path} sh -c true`,
      list,
      (path) => `chroot ${path} perl -e 1`,
      (path) => `chroot ${path} python3 -c 'import json'`,
    ]
  if (image === 'small-files') return [list, (path) => `cat ${path}/layer-3/10/*.js > /dev/null`]
  return [list, (path) => `cat "$(find ${path} -type f -size +2M | head -n 1)" > /dev/null`]
}

function loamLazyTool({ loam, loamd }: LazyBench, name: string, mode: '--lazy' | '--eager'): LazyTool {
  let child: ChildProcess | undefined
  const call = (folder: string) =>
    `LOAM_LAZY_TRUST=repository LOAM_DAEMON=require ${loam} --root ${folder}/store --state ${folder}/state --quiet`
  return {
    name,
    prepare: async (folder, warmUpImage) => {
      child = await startLoamd(loamd, folder)
      for (let round = 0; round < 3; round += 1) {
        run(`${call(folder)} provision --id warm ${mode} ${warmUpImage}`)
        run(`${call(folder)} destroy warm; ${call(folder)} rmi ${warmUpImage}; ${call(folder)} prune`)
      }
    },
    provision: (folder, image) => `${call(folder)} provision --id bench ${mode} ${image}`,
    cleanUp: async (folder) => {
      run(`${call(folder)} destroy bench; ${call(folder)} prune --all`)
      await stopLoamd(child)
    },
  }
}

async function startSlowLine(host: string): Promise<{ readonly host: string; readonly stop: () => void }> {
  const [name = '', port = ''] = host.split(':')
  const child = spawn(process.execPath, [SLOW_LINE, port, String(ONE_WAY_MS), String(BYTES_PER_SECOND)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const [own] = (await once(child.stdout, 'data')) as [Buffer]
  return {
    host: `${name}:${own.toString('utf8').trim()}`,
    stop: () => {
      child.kill()
    },
  }
}
