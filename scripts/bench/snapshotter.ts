// loamd beside containerd's own overlayfs snapshotter: the time of each call over a socket, with and without containerd in between, and
// of a container from its image's name to its end.
import { spawn } from 'node:child_process'
import { existsSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { median } from './measure.ts'
import { run } from './tools.ts'

const PROGRAM_SOURCE = fileURLToPath(new URL('snapshots/', import.meta.url))
const CALLS = ['Prepare', 'Mounts', 'Commit', 'Remove'] as const
const FIGURES = ['p50', 'p99', 'perSecond'] as const
const CALLS_OF_A_RUN = 600

type Latencies = Readonly<Record<(typeof CALLS)[number], Readonly<Record<(typeof FIGURES)[number], number>>>>

export interface SnapshotterBench {
  /** Command that starts the daemon. */
  readonly loamd: string
  /** For build results; not measured. */
  readonly folder: string
  readonly runs: number
  readonly createDisk: () => string
  readonly removeDisk: (disk: string) => void
}

/** Starts programs, and ends them when it is disposed. */
export class Servers implements AsyncDisposable {
  readonly #pids: number[] = []

  /** Starts a program that listens on a socket, and returns its process. */
  async start(socket: string, command: string): Promise<number> {
    const child = spawn('/bin/sh', ['-c', `exec ${command} > ${socket}.log 2>&1`], { stdio: 'ignore' })
    if (child.pid !== undefined) this.#pids.push(child.pid)
    for (let tries = 0; tries < 200 && !existsSync(socket); tries += 1) await sleep(25)
    await sleep(300)
    return child.pid ?? 0
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const pid of this.#pids.toReversed()) {
      run(`kill ${pid}; for i in $(seq 100); do kill -0 ${pid} 2>/dev/null || break; sleep 0.05; done`)
    }
  }
}

/** Prints the times of calls, and of pulling and running an image. */
export async function benchSnapshotter(bench: SnapshotterBench, image: string): Promise<void> {
  const program = buildCalls(bench.folder)
  for (const clients of [1, 8]) await benchCalls(bench, program, clients)
  await benchPullAndRun(bench, image)
}

/** Builds the program that calls snapshotters, and returns its path. */
export function buildCalls(folder: string): string {
  const program = join(folder, 'snapshots')
  run(
    `cd ${PROGRAM_SOURCE} && GO111MODULE=off GOPATH=/usr/share/gocode GOFLAGS= CGO_ENABLED=0 go build -o ${program} .`,
  )
  return program
}

async function benchCalls(bench: SnapshotterBench, program: string, clients: number): Promise<void> {
  const disk = bench.createDisk()
  const all = new Map<string, Latencies[]>()
  try {
    await using servers = new Servers()
    await servers.start(`${disk}/overlay.sock`, `${program} serve ${disk}/overlay ${disk}/overlay.sock`)
    await startBoth(servers, bench.loamd, disk)
    const subjects = {
      'overlayfs, alone': `${disk}/overlay.sock overlayfs`,
      loamd: `${disk}/loam.sock loam`,
      'overlayfs, in containerd': `${disk}/containerd.sock overlayfs`,
      'loamd, through containerd': `${disk}/containerd.sock loam`,
    }
    for (let round = 0; round <= bench.runs; round += 1) {
      for (const [name, target] of Object.entries(subjects)) {
        const text = run(`${program} measure ${target} ${Math.ceil(CALLS_OF_A_RUN / clients)} ${clients}`)
        // The first round warms V8 and caches up.
        if (round > 0) all.set(name, [...(all.get(name) ?? []), JSON.parse(text) as Latencies])
      }
    }
  } finally {
    bench.removeDisk(disk)
  }
  console.log(`\ncalls of ${clients} client(s): median and 99th percentile in ms, calls per second`)
  for (const [name, list] of all) {
    const cells = CALLS.map((call) => {
      const [p50 = 0, p99 = 0, perSecond = 0] = FIGURES.map((figure) =>
        median(list.map((one) => one[call][figure])),
      )
      return `${call} ${p50.toFixed(2)} ${p99.toFixed(2)} ${perSecond.toFixed(0)}/s`
    })
    console.log(`${name.padEnd(26)} ${cells.join('   ')}`)
  }
}

async function startBoth(servers: Servers, loamd: string, disk: string): Promise<void> {
  await servers.start(
    `${disk}/loam.sock`,
    `${loamd} --root ${disk}/store --state ${disk}/state --grpc-socket ${disk}/loam.sock --log-level warn`,
  )
  const config = join(disk, 'containerd.toml')
  writeFileSync(
    config,
    `version = 2
root = "${disk}/containerd"
state = "${disk}/containerd-state"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
address = "${disk}/containerd.sock"
[proxy_plugins.loam]
type = "snapshot"
address = "${disk}/loam.sock"
`,
  )
  await servers.start(`${disk}/containerd.sock`, `containerd -c ${config} -l error`)
}

async function benchPullAndRun(bench: SnapshotterBench, image: string): Promise<void> {
  const commands = {
    'containerd, overlayfs': (ctr: string) =>
      `ctr ${ctr} images pull --plain-http ${image} && ctr ${ctr} run --rm ${image} c1 /bin/busybox true`,
    'containerd, loamd': (ctr: string) =>
      `ctr-remote ${ctr} images rpull --plain-http --snapshotter loam ${image} && ctr ${ctr} run --rm --snapshotter loam ${image} c1 /bin/busybox true`,
  }
  const seconds = new Map<string, number[]>()
  for (let round = 0; round <= bench.runs; round += 1) {
    for (const [name, command] of Object.entries(commands)) {
      const disk = bench.createDisk()
      try {
        await using servers = new Servers()
        await startBoth(servers, bench.loamd, disk)
        mkdirSync(`${disk}/tmp`)
        const start = performance.now()
        run(command(`-a ${disk}/containerd.sock`))
        const took = (performance.now() - start) / 1000
        if (round > 0) seconds.set(name, [...(seconds.get(name) ?? []), took])
      } finally {
        bench.removeDisk(disk)
      }
    }
  }
  console.log(`\npull and run ${image} (medians of ${bench.runs})`)
  for (const [name, list] of seconds) console.log(`${name.padEnd(26)} ${median(list).toFixed(2)} s`)
}
