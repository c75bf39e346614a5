// stargz-snapshotter, the lazy pulling that containerd knows: layers are converted to eStargz, and a process answers reads by FUSE. Its daemon
// is built from Debian's package of its library (golang-github-containerd-stargz-snapshotter-dev, fuse3), with `ctr-remote` of stargz-snapshotter.
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import type { LazyTool } from './lazy-tool.ts'
import { run } from './tools.ts'

const LIBRARY = '/usr/share/gocode/src/github.com/containerd/stargz-snapshotter/fs'
const CLIENT = '/usr/bin/ctr-remote'
const SOURCE = fileURLToPath(new URL('stargz/', import.meta.url))

/** Of the list of snapshots: the committed one that is no other's parent. */
const TOPMOST =
  'NR > 1 && $NF == "Committed" {keys[$1]; if (NF > 2) parents[$2]} END {for (key in keys) if (!(key in parents)) print key}'

export interface StargzTool extends LazyTool {
  /** Converts an image of a registry, and pushes the result beside it; only the first time. */
  readonly convert: (folder: string, image: string) => Promise<void>
}

/** Returns the tool; undefined where Debian's packages for it are not installed. */
export function stargzTool(cache: string): StargzTool | undefined {
  if (![LIBRARY, CLIENT, '/usr/bin/fusermount3', '/usr/bin/go'].every((path) => existsSync(path)))
    return undefined
  const program = build(cache)
  let daemons: ChildProcess[] = []
  const start = async (folder: string) => {
    daemons = await startDaemons(program, folder)
  }
  const stop = async () => {
    for (const daemon of daemons.toReversed()) await end(daemon)
    daemons = []
  }
  return {
    name: 'stargz-snapshotter',
    convert: async (folder, image) => {
      const converted = convertedName(image)
      if (run(`skopeo inspect --raw --tls-verify=false docker://${converted} 2>/dev/null || true`) !== '')
        return
      await start(folder)
      try {
        run(`${remote(folder)} pull --plain-http ${image} >/dev/null`)
        run(`${remote(folder)} convert --estargz --oci ${image} ${converted} >/dev/null`)
        run(`${remote(folder)} push --plain-http ${converted} >/dev/null`)
      } finally {
        await stop()
      }
    },
    prepare: start,
    provision: (folder, image) => {
      const converted = convertedName(image)
      const options = '--plain-http --snapshotter stargz'
      // `ctr image mount` would unpack the image, whose blobs containerd does not have.
      return `${remote(folder)} rpull ${options} ${converted} >/dev/null && s="ctr -a ${folder}/c.sock snapshots --snapshotter stargz" && $s prepare bench "$($s ls | awk '${TOPMOST}')" && sh -c "$($s mounts ${folder}/rootfs bench)" && echo ${folder}/rootfs`
    },
    cleanUp: async (folder) => {
      run(`umount ${folder}/rootfs || umount -l ${folder}/rootfs || true`)
      await stop()
      run(`for each in $(grep -o "${folder}/[^ ]*" /proc/mounts); do umount -l "$each" || true; done`)
    },
  }
}

function convertedName(image: string): string {
  return `${image}-estargz`
}

function remote(folder: string): string {
  return `${CLIENT} -a ${folder}/c.sock images`
}

function build(cache: string): string {
  const program = join(cache, 'stargz-grpc')
  if (existsSync(program)) return program
  mkdirSync(cache, { recursive: true })
  const env = `GO111MODULE=off GOPATH=/usr/share/gocode GOFLAGS= GOPROXY=off CGO_ENABLED=0 GOCACHE=${cache}/gocache`
  run(`cd ${SOURCE} && ${env} go build -o ${program} .`)
  rmSync(join(cache, 'gocache'), { recursive: true })
  return program
}

async function startDaemons(program: string, folder: string): Promise<ChildProcess[]> {
  mkdirSync(`${folder}/rootfs`, { recursive: true })
  const socket = `${folder}/stargz.sock`
  const stargz = spawn(program, [socket, `${folder}/stargz`], { stdio: 'ignore' })
  await untilThere(socket)
  const file = join(folder, 'containerd.toml')
  writeFileSync(
    file,
    `version = 2
root = "${folder}/root"
state = "${folder}/state"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
  address = "${folder}/c.sock"
[proxy_plugins.stargz]
  type = "snapshot"
  address = "${socket}"
`,
  )
  const containerd = spawn('containerd', ['-c', file, '-l', 'error'], { stdio: 'ignore' })
  await untilThere(`${folder}/c.sock`)
  await sleep(300)
  return [stargz, containerd]
}

async function untilThere(socket: string): Promise<void> {
  for (let tries = 0; tries < 500 && !existsSync(socket); tries += 1) await sleep(20)
}

async function end(daemon: ChildProcess): Promise<void> {
  if (daemon.exitCode !== null || daemon.signalCode !== null) return
  const ended = once(daemon, 'exit')
  daemon.kill('SIGKILL')
  await ended
}
