// The daemon by its API: one root filesystem more, thirty-two clients at once, a thousand root filesystems of fifty images, and the
// answers to a client that lists images while a removal of 30,000 files, a pull and an fsck are under way.
import type { ChildProcess } from 'node:child_process'
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type * as Client from '../../packages/loam/src/client/index.ts'
import { buildImage, buildTar, writeOciLayout } from '../../packages/loam/src/testing/index.ts'
import { median } from './measure.ts'
import { run, startLoamd, stopLoamd } from './tools.ts'

const ROUNDS = 200
const CLIENTS = 32
const EACH = 30
const IMAGES = 50
const OF_EACH_IMAGE = 20
const REMOVED_FILES = 30_000
const PULLS = 20

export interface DaemonBench {
  /** Command that starts the daemon. */
  readonly loamd: string
  /** Module of the client. */
  readonly library: string
  readonly createDisk: () => string
  readonly removeDisk: (disk: string) => void
}

type Loam = Awaited<ReturnType<typeof Client.connectLoam>>

/** Prints what the daemon's API takes, and its memory. */
export async function benchDaemon(bench: DaemonBench): Promise<void> {
  const { connectLoam } = (await import(bench.library)) as typeof Client
  const disk = bench.createDisk()
  const image = (index: number) => `oci:${disk}/images:${index}`
  writeImages(disk)
  let daemon: ChildProcess | undefined
  try {
    daemon = await startLoamd(bench.loamd, disk)
    const { pid = 0 } = daemon
    const connect = async () => connectLoam({ socket: join(disk, 'state/loamd.sock') })
    await using loam = await connect()
    await loam.images.list()
    console.log(`\nthe daemon by its API\nmemory at rest: ${memoryOf(pid)} MiB`)
    for (let index = 0; index < PULLS; index += 1) await loam.pull(image(index))
    console.log(`memory after ${PULLS} pulls: ${memoryOf(pid)} MiB`)
    await benchSecond(loam, image(0))
    const others = await Promise.all(Array.from({ length: CLIENTS }, connect))
    const startMs = performance.now()
    await Promise.all(others.map(async (other, client) => provisionOften(other, `c${client}`, image(0))))
    const seconds = (performance.now() - startMs) / 1000
    console.log(
      `${CLIENTS} clients: ${((CLIENTS * EACH) / seconds).toFixed(0)} root filesystems a second, made and destroyed`,
    )
    for (const other of others) await other[Symbol.asyncDispose]()
    await benchMany(loam, disk, pid)
    await benchAnswers(loam, disk, image(IMAGES))
  } finally {
    await stopLoamd(daemon)
    bench.removeDisk(disk)
  }
}

async function benchSecond(loam: Loam, image: string): Promise<void> {
  const times: number[] = []
  for (let round = 0; round < ROUNDS; round += 1) {
    const startMs = performance.now()
    await loam.provision(image, { id: 'second' })
    times.push(performance.now() - startMs)
    await loam.destroy('second')
  }
  console.log(`second root filesystem: ${median(times).toFixed(2)} ms (median of ${ROUNDS})`)
}

async function provisionOften(loam: Loam, prefix: string, image: string): Promise<void> {
  for (let round = 0; round < EACH; round += 1) {
    await loam.provision(image, { id: `${prefix}-${round}` })
    await loam.destroy(`${prefix}-${round}`)
  }
}

async function benchMany(loam: Loam, disk: string, pid: number): Promise<void> {
  const count = IMAGES * OF_EACH_IMAGE
  const before = memoryOf(pid)
  let lastMs = 0
  const startMs = performance.now()
  for (let index = 0; index < count; index += 1) {
    const at = performance.now()
    await loam.provision(`oci:${disk}/images:${index % IMAGES}`, { id: `many-${index}` })
    lastMs = performance.now() - at
  }
  const seconds = (performance.now() - startMs) / 1000
  const kilobytes = ((memoryOf(pid) - before) * 1024) / count
  for (let index = 0; index < count; index += 1) await loam.destroy(`many-${index}`)
  const mounts = readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .filter((line) => line.includes(disk))
  const left = readdirSync(join(disk, 'store/containers'))
  console.log(
    `${count} root filesystems of ${IMAGES} images: ${seconds.toFixed(1)} s, the last in ${lastMs.toFixed(1)} ms, ${kilobytes.toFixed(0)} KiB of memory each; left afterwards: ${left.length} containers, ${mounts.length - 1} mounts`,
  )
}

/** What `GET /v1/images` takes while much else is done. */
async function benchAnswers(loam: Loam, disk: string, image: string): Promise<void> {
  const folder = join(disk, 'store/layers', `sha256:${'a'.repeat(64)}`, 'fs')
  for (let index = 0; index < REMOVED_FILES; index += 1) {
    const below = join(folder, String(index % 30))
    if (index < 30) mkdirSync(below, { recursive: true })
    writeFileSync(join(below, String(index)), '')
  }
  const times: number[] = []
  const done = new AbortController()
  const work = Promise.all([
    loam.images.prune({ all: true }),
    loam.pull(image),
    loam.store.fsck({ repair: false }),
  ]).finally(() => {
    done.abort()
  })
  while (!done.signal.aborted) {
    const startMs = performance.now()
    await loam.images.list()
    times.push(performance.now() - startMs)
  }
  await work
  const sorted = times.toSorted((a, b) => a - b)
  const p99 = sorted[Math.floor(sorted.length * 0.99)] ?? 0
  console.log(
    `list of images while a removal of ${REMOVED_FILES} files, a pull and an fsck are under way: median ${median(times).toFixed(1)} ms, 99th percentile ${p99.toFixed(1)} ms of ${times.length}`,
  )
}

/** Fifty images with three layers of their own, and one of 200 MB that takes long. */
function writeImages(disk: string): void {
  const shared = buildTar([
    { name: 'bin/' },
    { name: 'bin/busybox', data: readFileSync('/bin/busybox'), mode: 0o755 },
  ])
  const layer = (index: number, number: number) => [
    { name: `${number}/` },
    ...Array.from({ length: 50 }, (_file, file) => ({
      name: `${number}/${file}`,
      data: `${index}-${file}`.repeat(40),
    })),
  ]
  const images = Array.from({ length: IMAGES }, (_image, index) => [
    String(index),
    buildImage({ tars: [shared, buildTar(layer(index, 1)), buildTar(layer(index, 2))], compression: 'gzip' }),
  ])
  const large = Array.from({ length: 200 }, (_file, file) => ({
    name: String(file),
    data: Buffer.alloc(1 << 20, `${file} `),
  }))
  writeOciLayout(join(disk, 'images'), {
    ...Object.fromEntries(images),
    [IMAGES]: buildImage({ tars: [buildTar(large)], compression: 'gzip' }),
  })
  run(`sync -f ${disk}`)
}

function memoryOf(pid: number): number {
  const pages = Number(readFileSync(`/proc/${pid}/statm`, 'utf8').split(' ')[1])
  return Math.round((pages * 4096) / 2 ** 20)
}
