// containerd as Debian 12 has it, with overlayfs; and the newest one of Debian, with its own EROFS snapshotter and igzip, which is the
// fastest engine that is known. `scripts/fetch-test-tools.sh bench` fetches the latter.
import { spawn } from 'node:child_process'
import { existsSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import type { ProcessGroup } from './measure.ts'
import { type BenchTool, run } from './tools.ts'

interface Release {
  readonly name: string
  /** Directory of its programs, and of those that it calls; empty for the machine's own. */
  readonly programs: string
  readonly snapshotter: string
  readonly configuration: (folder: string) => string
}

const debian12: Release = {
  name: 'containerd 1.6 overlayfs',
  programs: '',
  snapshotter: 'overlayfs',
  configuration: (folder) => `version = 2
root = "${folder}/root"
state = "${folder}/state"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
  address = "${folder}/c.sock"
`,
}

const newest: Release = {
  name: 'containerd 2.1 erofs',
  programs: fileURLToPath(new URL('../../.cache/test-tools/containerd/bin/', import.meta.url)),
  snapshotter: 'erofs',
  configuration: (folder) => `version = 3
root = "${folder}/root"
state = "${folder}/state"
disabled_plugins = ["io.containerd.cri.v1.images", "io.containerd.cri.v1.runtime", "io.containerd.grpc.v1.cri"]
[grpc]
  address = "${folder}/c.sock"
[ttrpc]
  address = "${folder}/t.sock"
[plugins."io.containerd.internal.v1.opt"]
  path = "${folder}/opt"
[plugins."io.containerd.service.v1.diff-service"]
  default = ["erofs", "walking"]
[[plugins."io.containerd.transfer.v1.local".unpack_config]]
  platform = "linux/amd64"
  snapshotter = "erofs"
  differ = "erofs"
`,
}

/** Returns those that are here. */
export function containerdTools(): BenchTool[] {
  return [debian12, newest]
    .filter(({ programs }) => programs === '' || existsSync(join(programs, 'containerd')))
    .map((release) => toolOf(release))
}

function toolOf(release: Release): BenchTool {
  const { name, programs, snapshotter } = release
  const ctr = (folder: string) => `${join(programs, 'ctr')} -a ${folder}/c.sock`
  const mount = (folder: string, image: string, target: string) =>
    `${ctr(folder)} image mount --rw --snapshotter ${snapshotter} ${image} ${target}`
  const unmount = (folder: string, target: string) =>
    `${ctr(folder)} image unmount --rm --snapshotter ${snapshotter} ${target}`
  return {
    name,
    prepare: async (folder, group) => startDaemon(release, folder, group),
    command: (folder, image) =>
      `${ctr(folder)} image pull --plain-http --snapshotter ${snapshotter} ${image} >/dev/null && ${mount(folder, image, `${folder}/mnt`)}`,
    check: (folder) => `ls ${folder}/mnt`,
    second: (folder, image) => `mkdir ${folder}/second && ${mount(folder, image, `${folder}/second`)}`,
    destroy: (folder) => unmount(folder, `${folder}/second`),
    remove: (folder, image) =>
      `${unmount(folder, `${folder}/mnt`)} && ${ctr(folder)} image rm --sync ${image}`,
    cleanUp: async (folder) => {
      run(
        `umount ${folder}/mnt 2>/dev/null; kill $(cat ${folder}/pid); for i in 1 2 3 4 5 6 7 8 9 10; do kill -0 $(cat ${folder}/pid) 2>/dev/null || break; sleep 0.2; done`,
      )
    },
  }
}

async function startDaemon({ programs, configuration }: Release, folder: string, group: ProcessGroup) {
  mkdirSync(`${folder}/mnt`)
  const file = join(folder, 'containerd.toml')
  writeFileSync(file, configuration(folder))
  const child = spawn(join(programs, 'containerd'), ['-c', file, '-l', 'error'], {
    stdio: 'ignore',
    detached: true,
    env: { ...process.env, PATH: `${programs}:${process.env['PATH']}` },
  })
  if (child.pid === undefined) throw new Error('containerd did not start')
  group.addProcess(child.pid)
  writeFileSync(join(folder, 'pid'), String(child.pid))
  for (let tries = 0; tries < 200 && !existsSync(`${folder}/c.sock`); tries += 1) await sleep(20)
  await sleep(300)
}
