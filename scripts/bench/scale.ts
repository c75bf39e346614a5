// One node with many small images and containers: containerd with Loam and with its own overlayfs, by CRI as kubelet calls it, and by the
// snapshots API of the same socket.
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { hostPlatform } from '../../packages/loam/src/linux/index.ts'
import { containerdConfig } from '../../packages/loam/src/nodes/index.ts'
import { chainIds, parseDiffId } from '../../packages/loam/src/image/index.ts'
import {
  buildImage,
  buildTar,
  type BuiltImage,
  writeOciLayout,
} from '../../packages/loam/src/testing/index.ts'
import { Cri } from '../../packages/loamd/test/support/cri.ts'
import { median } from './measure.ts'
import { buildCalls, Servers, type SnapshotterBench } from './snapshotter.ts'
import { run } from './tools.ts'

const IMAGES = 20
const SHARED_LAYERS = 4
const OWN_LAYERS = 2
const FILES_OF_LAYER = 300
const SNAPSHOTS = 200
/** containerd's own overlayfs in its process, the same behind a socket, as every snapshotter outside of containerd is, and Loam. */
const SUBJECTS = ['overlayfs', 'proxied', 'loam'] as const
type Subject = (typeof SUBJECTS)[number]

interface ScaleBench extends SnapshotterBench {
  /** The program that calls snapshotters. */
  readonly program: string
  readonly registryHost: string
  /** Chain IDs of the images. */
  readonly parents: readonly string[]
}

/** What one run took: seconds and processor time of all pulls, memory of the snapshotter's process, and the calls in milliseconds. */
interface Figures {
  readonly pullSeconds: number
  readonly cpuSeconds: number
  readonly residentMiB: number
  readonly peakMiB: number
  readonly calls: Readonly<Record<'prepare' | 'mounts' | 'usage' | 'list' | 'remove', number>>
}

/** Prints the times of both, and their ratios. */
export async function benchScale(bench: SnapshotterBench, registryHost: string): Promise<void> {
  const node = {
    ...bench,
    program: buildCalls(bench.folder),
    registryHost,
    parents: pushImages(bench.folder, registryHost),
  }
  const all: Record<Subject, Figures[]> = { overlayfs: [], proxied: [], loam: [] }
  for (let round = 0; round <= bench.runs; round += 1) {
    for (const subject of SUBJECTS) {
      const figures = await measureOnce(node, subject)
      // The first round warms the caches of the registry and the machine.
      if (round > 0) all[subject].push(figures)
    }
  }
  print(all)
}

function print(all: Readonly<Record<Subject, readonly Figures[]>>): void {
  const cells = (name: string, read: (figures: Figures) => number, digits = 2) => {
    const [loam, ...peers] = SUBJECTS.toReversed().map((subject) => median(all[subject].map(read)))
    const ratios = peers.map(
      (peer) => `${peer.toFixed(digits).padStart(10)} ${((loam ?? 0) / peer).toFixed(2).padStart(6)}x`,
    )
    console.log(`${name.padEnd(36)} ${(loam ?? 0).toFixed(digits).padStart(9)} ${ratios.join(' ')}`)
  }
  console.log(
    `\n${IMAGES} images of ${SHARED_LAYERS + OWN_LAYERS} small layers by CRI, ${SNAPSHOTS} snapshots (medians)`,
  )
  console.log(`${''.padEnd(36)}     loamd   overlayfs by a socket   overlayfs`)
  cells('pull all, s', ({ pullSeconds }) => pullSeconds)
  cells('processor time of the daemons, s', ({ cpuSeconds }) => cpuSeconds)
  for (const call of ['prepare', 'mounts', 'remove'] as const)
    cells(`${call}, ms`, ({ calls }) => calls[call])
  cells('list of all, ms', ({ calls }) => calls.list)
  cells('usage of all, ms', ({ calls }) => calls.usage)
  cells('memory at the end, MiB', ({ residentMiB }) => residentMiB, 0)
  cells('highest memory, MiB', ({ peakMiB }) => peakMiB, 0)
}

async function measureOnce(bench: ScaleBench, subject: Subject): Promise<Figures> {
  const { program, registryHost, parents } = bench
  const disk = bench.createDisk()
  try {
    await using servers = new Servers()
    const socket = `${disk}/snapshotter.sock`
    const commands: Readonly<Record<Subject, string | undefined>> = {
      overlayfs: undefined,
      proxied: `${program} serve ${disk}/overlay ${socket}`,
      loam: `${bench.loamd} --root ${disk}/store --state ${disk}/state --grpc-socket ${socket} --log-level warn`,
    }
    const command = commands[subject]
    const outside = command === undefined ? [] : [await servers.start(socket, command)]
    const containerd = await servers.start(
      `${disk}/containerd.sock`,
      `containerd -c ${writeConfig(disk, subject)} -l error`,
    )
    const snapshotter = outside[0] ?? containerd
    const cpu = () => [...outside, containerd].reduce((sum, pid) => sum + cpuOf(pid), 0)
    const cri = new Cri(`${disk}/containerd.sock`, disk)
    try {
      while (!(await cri.isReady())) await sleep(50)
      const before = cpu()
      const startMs = performance.now()
      for (let index = 0; index < IMAGES; index += 1) await cri.pull(`${registryHost}/scale-${index}:1`)
      const pullSeconds = (performance.now() - startMs) / 1000
      const cpuSeconds = cpu() - before
      const calls = JSON.parse(
        run(`${program} scale ${disk}/containerd.sock ${subject} ${SNAPSHOTS} ${parents.join(' ')}`),
      ) as Figures['calls']
      return {
        pullSeconds,
        cpuSeconds,
        calls,
        residentMiB: memoryOf(snapshotter, 'VmRSS'),
        peakMiB: memoryOf(snapshotter, 'VmHWM'),
      }
    } finally {
      cri.close()
    }
  } finally {
    bench.removeDisk(disk)
  }
}

/** The configuration of the documents, with the name of the plugin; and without one. */
function writeConfig(disk: string, subject: Subject): string {
  const setup = {
    name: subject,
    version: '1.6',
    socket: `${disk}/snapshotter.sock`,
    root: `${disk}/store`,
    platform: hostPlatform(),
    containerdRoot: `${disk}/containerd`,
  }
  mkdirSync(`${disk}/cni`)
  const file = join(disk, 'containerd.toml')
  const ours = subject === 'overlayfs' ? 'version = 2\n' : containerdConfig(setup)
  writeFileSync(
    file,
    `root = "${disk}/containerd"
state = "${disk}/containerd-state"
${ours}
[grpc]
  address = "${disk}/containerd.sock"
[plugins."io.containerd.internal.v1.opt"]
  path = "${disk}/opt"
[plugins."io.containerd.grpc.v1.cri"]
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    conf_dir = "${disk}/cni"
`,
  )
  return file
}

/** Makes and pushes the images, and returns the chain IDs of their last layers. */
function pushImages(folder: string, registryHost: string): string[] {
  const shell = [{ name: 'bin/' }, { name: 'bin/busybox', data: readFileSync('/bin/busybox'), mode: 0o755 }]
  const shared = Array.from({ length: SHARED_LAYERS }, (_layer, layer) =>
    layer === 0 ? buildTar(shell) : createLayer(`shared-${layer}`, 20),
  )
  const built = Array.from({ length: IMAGES }, (_image, image) => {
    const own = Array.from({ length: OWN_LAYERS }, (_layer, layer) =>
      createLayer(`own-${image}-${layer}`, FILES_OF_LAYER),
    )
    return buildImage({ tars: [...shared, ...own], config: { Cmd: ['/bin/sh'] } })
  })
  const layout = join(folder, 'layout-scale')
  writeOciLayout(layout, Object.fromEntries(built.map((image, index) => [String(index), image])))
  for (const index of built.keys())
    run(
      `skopeo copy -q --insecure-policy --dest-tls-verify=false oci:${layout}:${index} docker://${registryHost}/scale-${index}:1`,
    )
  return built.map(lastChainId)
}

function lastChainId({ diffIds }: BuiltImage): string {
  return chainIds(diffIds.map((diffId) => parseDiffId(diffId))).at(-1) ?? ''
}

function createLayer(name: string, files: number): Buffer {
  return buildTar([
    { name: `${name}/` },
    ...Array.from({ length: files }, (_file, index) => ({
      name: `${name}/${index}`,
      data: `${name} ${index}\n`,
    })),
  ])
}

function cpuOf(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.split(' ') ?? []
  // Fields 14 and 15, in hundredths of a second.
  return (Number(fields[11]) + Number(fields[12])) / 100
}

function memoryOf(pid: number, field: 'VmRSS' | 'VmHWM'): number {
  const text = readFileSync(`/proc/${pid}/status`, 'utf8')
  return Number(new RegExp(`${field}:\\s+(\\d+)`).exec(text)?.[1]) / 1024
}
