// What must be true of a daemon that serves after a fault, asked by its own API.
import { existsSync, readdirSync, readFileSync, readlinkSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { DaemonWorld } from '../../../loamd/test/support/world.ts'
import type { RemoteLoam } from '../../src/client/index.ts'
import { Transport } from '../../src/client/transport.ts'
import type { ContainerInfo } from '../../src/index.ts'
import { listTree } from '../../src/testing/index.ts'
import type { Confirmed } from './api-clients.ts'
import type { Scene } from './scene.ts'

export interface Served {
  readonly world: DaemonWorld
  readonly scene: Scene
  readonly confirmed: Confirmed
}

/** Longer than what goes on after its answer takes. */
const SETTLE_LIMIT_MS = 10_000
const PAUSE_MS = 50

/** Waits until something is so. Returns false when it does not become so. */
export async function comesTrue(isSo: () => Promise<boolean>, limitMs = SETTLE_LIMIT_MS): Promise<boolean> {
  for (const startMs = performance.now(); performance.now() - startMs < limitMs; await sleep(PAUSE_MS)) {
    if (await isSo()) return true
  }
  return false
}

/** Waits until the daemon has nothing to do, looks at all of it, and returns what is wrong. */
export async function checkServed(loam: RemoteLoam, served: Served): Promise<string[]> {
  const wrong: string[] = []
  try {
    await settle(served.world)
    await checkRecovered(loam, wrong)
    await checkConfirmed(loam, served, wrong)
    await checkTrees(loam, served, wrong)
    const { problems } = await loam.store.fsck({ repair: false })
    for (const { what, problem } of problems) wrong.push(`I3: ${what}: ${problem}`)
    await checkLeft(loam, served, wrong)
  } catch (error) {
    wrong.push(`the check itself failed: ${error instanceof Error ? error.stack : String(error)}`)
  }
  return wrong
}

/** Clients that have vanished leave requests that are being canceled. @throws when they do not end */
async function settle({ apiSocket }: DaemonWorld): Promise<void> {
  const transport = new Transport(apiSocket)
  const isIdle = async () => (await transport.call('daemon.status', {})).requests.length === 0
  try {
    if (!(await comesTrue(isIdle))) throw new Error('its requests do not end')
  } finally {
    transport.close()
  }
}

/** What a daemon that starts has to put right, it has put right. */
async function checkRecovered(loam: RemoteLoam, wrong: string[]): Promise<void> {
  const { undone, restored, swept, failed, quarantined } = await loam.recover()
  if ([undone, restored, swept, failed, quarantined].some(({ length }) => length > 0))
    wrong.push(`I1: a recovery changed ${JSON.stringify({ undone, restored, swept, failed, quarantined })}`)
}

async function checkConfirmed(loam: RemoteLoam, { confirmed }: Served, wrong: string[]): Promise<void> {
  const listed = new Map((await loam.containers.list()).map(({ id, rootfses }) => [String(id), rootfses]))
  for (const [id, { written }] of confirmed.containers) {
    const [rootfs] = listed.get(id) ?? []
    if (rootfs === undefined) wrong.push(`I4: container ${id} is gone`)
    else if (read(join(rootfs.rootfsPath, 'written')) !== written)
      wrong.push(`I4: what was written to container ${id} is gone`)
  }
  for (const [id, rootfses] of listed) {
    for (const { state, isStanding } of rootfses)
      if (state !== 'ready' || !isStanding)
        wrong.push(`I4: container ${id} is ${state}, standing ${isStanding}`)
  }
  const names = new Set((await loam.images.list()).flatMap((image) => image.names))
  for (const name of [...confirmed.pulled, ...confirmed.put])
    if (!names.has(name)) wrong.push(`I2: image ${name} is gone, and it was confirmed`)
}

async function checkTrees(loam: RemoteLoam, { scene }: Served, wrong: string[]): Promise<void> {
  for (const [reference, tree] of scene.trees) {
    const { rootfsPath } = await loam.provision(reference, { id: 'check' })
    if (listTree(rootfsPath).join('\n') !== tree.join('\n')) wrong.push(`I2: ${reference} shows another tree`)
    await loam.destroy('check')
  }
}

/** I5: mounts, unfinished work, rubbish, locks and open files that belong to nothing that exists. */
async function checkLeft(loam: RemoteLoam, { world }: Served, wrong: string[]): Promise<void> {
  const containers = await loam.containers.list()
  const paths = new Set(containers.flatMap(({ rootfses }) => mountsOf(rootfses)))
  for (const path of world.rootfsMounts()) if (!paths.has(path)) wrong.push(`I5: ${path} is mounted`)
  const known = new Set(containers.map(({ id }) => String(id)))
  for (const id of readdirSync(join(world.root, 'containers')))
    if (!known.has(id)) wrong.push(`I5: the folder of container ${id} is left`)
  // Large trees are removed after the answer.
  if (!(await comesTrue(async () => unfinished(world).length === 0)))
    wrong.push(`I5: left behind: ${unfinished(world).join()}`)
  const { pid } = loam.daemon
  const open = openFiles(pid).filter((path) => path.startsWith(`${world.root}/`))
  for (const path of open)
    if (!OWN_FILES.test(path.slice(world.root.length + 1))) wrong.push(`I5: the daemon keeps ${path} open`)
  const children = read(`/proc/${pid}/task/${pid}/children`) ?? ''
  if (children.trim() !== '') wrong.push(`I5: the daemon has the child ${children}`)
}

/** Where the root filesystems of a container are mounted: volumes also in another one. */
function mountsOf(rootfses: ContainerInfo['rootfses']): string[] {
  return rootfses.flatMap(({ rootfsPath, volumeTarget = rootfsPath }) => [rootfsPath, volumeTarget])
}

/** A daemon keeps one folder for unfinished work, which is empty when it has none. */
function unfinished({ root }: DaemonWorld): string[] {
  const work = readdirSync(join(root, 'ingest'))
  const inside = work.flatMap((name) => readdirSync(join(root, 'ingest', name)))
  return [...work.slice(1), ...inside, ...readdirSync(join(root, 'trash'))]
}

/** What a daemon without work keeps open: its database, and the lock of its folder for unfinished work. */
const OWN_FILES = /^(?:loam\.db|metadata|locks\/ingest-)/

function openFiles(pid: number): string[] {
  const folder = `/proc/${pid}/fd`
  return readdirSync(folder).flatMap((name) => {
    try {
      return [readlinkSync(join(folder, name))]
    } catch {
      return []
    }
  })
}

function read(path: string): string | undefined {
  return existsSync(path) ? readFileSync(path, 'utf8') : undefined
}
