// The compared tools. Each gets a folder on a fresh file system and must end with a root filesystem
// that can be entered: a mount or a folder with the image's files.
import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Measurement, ProcessGroup } from './measure.ts'

/** The measurements of one run of one tool. */
export interface Run extends Measurement {
  readonly secondSeconds: number
  readonly destroySeconds: number
  readonly removeSeconds: number
  readonly diskBytes: number
}

export interface BenchTool {
  readonly name: string
  /** Starts the programs that the tool needs; their start is not measured, their work is. */
  readonly prepare: (folder: string, group: ProcessGroup) => Promise<void>
  /** Shell command that pulls the image and creates a root filesystem. */
  readonly command: (folder: string, image: string) => string
  /** Shell command that lists the root of the result. */
  readonly check: (folder: string) => string
  /** Shell commands that create a second root filesystem of the image, destroy it, and then remove the image. */
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

/** The command with the daemon running. The daemon has pulled these images before and has removed them again, so that its code is compiled. */
export function loamDaemonTool(loam: string, loamd: string, warmUpImages: readonly string[]): BenchTool {
  const alone = loamTool(`LOAM_DAEMON=require ${loam}`)
  let child: ChildProcess | undefined
  return {
    ...alone,
    name: 'loam with loamd',
    prepare: async (folder, group) => {
      child = await startLoamd(loamd, folder)
      if (child.pid !== undefined) group.addProcess(child.pid)
      for (const image of warmUpImages) {
        run(alone.command(folder, image))
        run(alone.second(folder, image))
        run(alone.destroy(folder))
        run(alone.remove(folder, image))
      }
    },
    cleanUp: async () => {
      await stopLoamd(child)
    },
  }
}

/** Starts the daemon on a store in the folder, and waits until it listens. */
export async function startLoamd(loamd: string, folder: string): Promise<ChildProcess> {
  const options = `--root ${folder}/store --state ${folder}/state --grpc-socket ${folder}/loam.sock --log-level warn`
  const child = spawn('/bin/sh', ['-c', `exec ${loamd} ${options} >${folder}/loamd.log 2>&1`], {
    stdio: 'ignore',
  })
  const socket = `${folder}/state/loamd.sock`
  for (let tries = 0; tries < 1000 && !existsSync(socket); tries += 1) await sleep(20)
  return child
}

/** Ends the daemon, and waits for that. */
export async function stopLoamd(child: ChildProcess | undefined): Promise<void> {
  if (child === undefined || child.exitCode !== null || child.signalCode !== null) return
  const ended = once(child, 'exit')
  child.kill()
  await ended
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

export function run(command: string): string {
  return execFileSync('sh', ['-c', command], { encoding: 'utf8', maxBuffer: 64 << 20 })
}
