// The tools that are compared. Each gets a folder on a fresh file system and must end with a root filesystem
// that can be entered: a mount or a folder with the image's files.
import { execFileSync, spawn } from 'node:child_process'
import { existsSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { ProcessGroup } from './measure.ts'

export interface BenchTool {
  readonly name: string
  /** Starts what the tool needs beforehand; its start is not measured, its work is. */
  readonly prepare: (folder: string, group: ProcessGroup) => Promise<void>
  /** Shell command that pulls the image and makes a root filesystem. */
  readonly command: (folder: string, image: string) => string
  /** Shell command that lists the root of what was made. */
  readonly check: (folder: string) => string
  /** Shell commands that make a second root filesystem of the image, take it away, and remove the image after that. */
  readonly second: (folder: string, image: string) => string
  readonly destroy: (folder: string) => string
  readonly remove: (folder: string, image: string) => string
  readonly cleanUp: (folder: string) => Promise<void>
}

const nothing = async (): Promise<void> => undefined

export function loamTool(loam: string): BenchTool {
  const call = (folder: string) => `${loam} --root ${folder}/store --state ${folder}/state --quiet`
  return {
    name: 'loam',
    prepare: nothing,
    command: (folder, image) => `${call(folder)} provision --id bench ${image} > ${folder}/path`,
    check: (folder) => `ls $(cat ${folder}/path)`,
    second: (folder, image) => `${call(folder)} provision --id second ${image}`,
    destroy: (folder) => `${call(folder)} destroy second`,
    remove: (folder, image) =>
      `${call(folder)} destroy bench && ${call(folder)} rmi ${image} && ${call(folder)} prune`,
    cleanUp: nothing,
  }
}

export const umociTool: BenchTool = {
  name: 'skopeo + umoci',
  prepare: nothing,
  command: (folder, image) =>
    `skopeo copy -q --src-tls-verify=false docker://${image} oci:${folder}/oci:bench && umoci unpack --image ${folder}/oci:bench ${folder}/bundle`,
  check: (folder) => `ls ${folder}/bundle/rootfs`,
  second: (folder) => `umoci unpack --image ${folder}/oci:bench ${folder}/second`,
  destroy: (folder) => `rm -rf ${folder}/second`,
  remove: (folder) => `rm -rf ${folder}/bundle ${folder}/oci`,
  cleanUp: nothing,
}

export const podmanTool: BenchTool = {
  name: 'podman',
  prepare: nothing,
  command: (folder, image) =>
    `${podman(folder)} pull -q --tls-verify=false ${image} && ${podman(folder)} image mount ${image} > ${folder}/path`,
  check: (folder) => `ls $(cat ${folder}/path)`,
  second: (folder, image) =>
    `${podman(folder)} create -q --network none --name second ${image} true && ${podman(folder)} mount second`,
  destroy: (folder) => `${podman(folder)} umount second && ${podman(folder)} rm second`,
  remove: (folder, image) => `${podman(folder)} image unmount -a -f && ${podman(folder)} rmi -f ${image}`,
  cleanUp: async (folder) => {
    run(`${podman(folder)} image unmount -a -f; umount ${folder}/storage/overlay 2>/dev/null || true`)
  },
}

function podman(folder: string): string {
  return `podman --root ${folder}/storage --runroot ${folder}/run --storage-driver overlay`
}

export const containerdTool: BenchTool = {
  name: 'containerd',
  prepare: async (folder, group) => {
    mkdirSync(`${folder}/mnt`)
    const config = join(folder, 'containerd.toml')
    writeFileSync(
      config,
      `version = 2\nroot = "${folder}/root"\nstate = "${folder}/state"\ndisabled_plugins = ["io.containerd.grpc.v1.cri"]\n[grpc]\naddress = "${folder}/c.sock"\n`,
    )
    const child = spawn('containerd', ['-c', config, '-l', 'error'], {
      stdio: 'ignore',
      detached: true,
    })
    if (child.pid === undefined) throw new Error('containerd did not start')
    group.addProcess(child.pid)
    writeFileSync(join(folder, 'pid'), String(child.pid))
    for (let tries = 0; tries < 200 && !existsSync(`${folder}/c.sock`); tries += 1) await sleep(20)
    await sleep(300)
  },
  command: (folder, image) =>
    `${ctr(folder)} image pull --plain-http ${image} >/dev/null && ${ctr(folder)} image mount --rw ${image} ${folder}/mnt`,
  check: (folder) => `ls ${folder}/mnt`,
  second: (folder, image) =>
    `mkdir ${folder}/second && ${ctr(folder)} image mount --rw ${image} ${folder}/second`,
  destroy: (folder) => `${ctr(folder)} image unmount --rm ${folder}/second`,
  remove: (folder, image) =>
    `${ctr(folder)} image unmount --rm ${folder}/mnt && ${ctr(folder)} image rm --sync ${image}`,
  cleanUp: async (folder) => {
    run(
      `umount ${folder}/mnt 2>/dev/null; kill $(cat ${folder}/pid); for i in 1 2 3 4 5 6 7 8 9 10; do kill -0 $(cat ${folder}/pid) 2>/dev/null || break; sleep 0.2; done`,
    )
  },
}

function ctr(folder: string): string {
  return `ctr -a ${folder}/c.sock`
}

export function run(command: string): string {
  return execFileSync('sh', ['-c', command], { encoding: 'utf8', maxBuffer: 64 << 20 })
}
