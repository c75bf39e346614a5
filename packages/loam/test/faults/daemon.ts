// R8: the daemon is killed or stopped while it works, and root filesystems and mounted snapshots have to stay.
import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { Client } from '../../../loamd/test/support/client.ts'
import { DaemonWorld } from '../../../loamd/test/support/world.ts'
import { type Loam, openLoam } from '../../src/index.ts'
import type { Group, GroupContext, Outcome } from './outcome.ts'
import type { Scene } from './scene.ts'

const STANDING = 50
const CLIENTS = 4

export const killedDaemon: Group = {
  id: 'R8',
  what: `the daemon killed or stopped while busy, with ${STANDING} root filesystems and ${STANDING} snapshots mounted`,
  run: async (context, outcome) => {
    await using world = new DaemonWorld()
    await work(context, outcome, world)
    const left = ['snapshots', 'containers', 'trash', 'ingest'].flatMap((name) =>
      readdirSync(join(world.root, name)),
    )
    outcome.add(
      0,
      [...left, ...world.mounts()].map((path) => `I5: ${path} is left`),
    )
  },
}

async function work({ scene, isLong }: GroupContext, outcome: Outcome, world: DaemonWorld): Promise<void> {
  await using loam = await openLoam({ flags: { root: world.root, state: world.state }, file: null, env: {} })
  await world.startDaemon('--log-level', 'error')
  await createStanding(scene, world, loam)
  const acknowledged = new Set<string>()
  await outcome.repeat(isLong ? 200 : 8, async (random, round) => {
    const working = Array.from({ length: CLIENTS }, async (_value, index) =>
      workUntilGone(world, `r${round}w${index}`, acknowledged),
    )
    await sleep(random.next() * 400)
    const signal = random.next() < 0.7 ? 'SIGKILL' : 'SIGTERM'
    outcome.count(signal)
    const status = await world.stop('loamd', signal)
    const wrong =
      signal === 'SIGTERM' && status !== 0
        ? [`a stop ended with ${status}: ${readFileSync(world.log('loamd'), 'utf8').slice(-2000)}`]
        : []
    await Promise.all(working)
    await world.startDaemon('--log-level', 'error')
    return [...wrong, ...(await checkStanding(world, loam, acknowledged))]
  })
  outcome.figures['acknowledged commits'] = acknowledged.size
  await takeAllAway(world, loam)
}

const snapshotMount = (world: DaemonWorld, index: number) => world.path('mounted', `${index}`)

/** Root filesystems by the library, and snapshots by the daemon, mounted and written to. */
async function createStanding({ references }: Scene, world: DaemonWorld, loam: Loam): Promise<void> {
  const client = new Client(world.socket)
  await client.prepare('base active')
  await client.commit('base', 'base active')
  for (let index = 0; index < STANDING; index += 1) {
    const image = references[index % references.length] ?? ''
    const { rootfsPath } = await loam.provision(image, { id: `standing-${index}` })
    writeFileSync(join(rootfsPath, 'written'), `${index}`)
    const { mounts } = await client.prepare(`standing-${index}`, 'base')
    const [mount] = mounts
    const target = snapshotMount(world, index)
    mkdirSync(target, { recursive: true })
    if (mount === undefined) throw new Error('a snapshot without a mount')
    execFileSync('mount', ['-t', mount.type, '-o', mount.options.join(), mount.source, target])
    writeFileSync(join(target, 'written'), `${index}`)
  }
  client.close()
}

/** A client's work, until its daemon is gone. Records what was acknowledged. */
async function workUntilGone(world: DaemonWorld, name: string, acknowledged: Set<string>): Promise<void> {
  const client = new Client(world.socket)
  try {
    for (let round = 0; ; round += 1) {
      const key = `${name}/${round}`
      await client.prepare(`${key} active`, 'base')
      await client.commit(key, `${key} active`)
      acknowledged.add(key)
    }
  } catch {
    // The daemon is gone.
  } finally {
    client.close()
  }
}

async function checkStanding(
  world: DaemonWorld,
  loam: Loam,
  acknowledged: ReadonlySet<string>,
): Promise<string[]> {
  const wrong: string[] = []
  const { undone, restored, failed, quarantined } = await loam.recover()
  if (undone.length + restored.length + failed.length + quarantined.length > 0)
    wrong.push(`I4: recovery changed ${JSON.stringify({ undone, restored, failed, quarantined })}`)
  const client = new Client(world.socket)
  const names = new Set((await client.list()).map(({ name }) => name))
  for (const name of acknowledged) if (!names.has(name)) wrong.push(`${name} was acknowledged, and is gone`)
  const rootfses = new Map<string, string | undefined>(
    (await loam.containers.list()).map(({ id, rootfses: all }) => [id, all[0]?.rootfsPath]),
  )
  for (let index = 0; index < STANDING; index += 1) {
    const rootfsPath = rootfses.get(`standing-${index}`) ?? '/nowhere'
    if (!holds(join(rootfsPath, 'written'), index))
      wrong.push(`I4: root filesystem ${index} is not as it was`)
    if (!holds(join(snapshotMount(world, index), 'written'), index))
      wrong.push(`I4: snapshot ${index} is not as it was`)
    await client.mounts(`standing-${index}`)
  }
  client.close()
  return wrong
}

function holds(path: string, index: number): boolean {
  return existsSync(path) && readFileSync(path, 'utf8') === `${index}`
}

/** @throws if a mount is busy */
async function takeAllAway(world: DaemonWorld, loam: Loam): Promise<void> {
  const client = new Client(world.socket)
  for (let index = 0; index < STANDING; index += 1) {
    execFileSync('umount', [snapshotMount(world, index)])
    await loam.destroy(`standing-${index}`)
  }
  for (const { name } of (await client.list()).toReversed()) await client.remove(name)
  await client.cleanup()
  client.close()
  await world.stop('loamd')
  await loam.recover()
  await loam.images.prune({ all: true, local: true })
}
