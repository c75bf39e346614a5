// R16: the daemon's API under several clients, while the daemon is killed, stopped and replaced, and beside clients that misbehave.
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { DaemonWorld, until } from '../../../loamd/test/support/world.ts'
import { connectLoam, type RemoteLoam } from '../../src/client/index.ts'
import { buildImage, buildTar, writeOciLayout } from '../../src/testing/index.ts'
import { ApiClient, Confirmed } from './api-clients.ts'
import { checkServed, comesTrue } from './api-checks.ts'
import { misbehave } from './api-nuisances.ts'
import { check, checkEmptied } from './invariants.ts'
import type { Group, GroupContext, Outcome } from './outcome.ts'
import { Random } from './random.ts'
import { type Scene, Store } from './scene.ts'

const CLIENTS = 4
const NUISANCES = 2
const FAULTS = ['SIGKILL', 'SIGTERM', 'SIGHUP', 'SIGHUP and SIGKILL'] as const
/** Longer than a stop may take. */
const ENDS_LIMIT_MS = 30_000
type Fault = (typeof FAULTS)[number]

export const servedApi: Group = {
  id: 'R16',
  what: `${CLIENTS} clients of the API and ${NUISANCES} that misbehave, while the daemon is killed, stopped and replaced`,
  run: async (context, outcome) => {
    await using world = new DaemonWorld()
    // In the world's own folder, which goes away with it.
    const store = new Store(world.folder)
    try {
      await work(context, outcome, world)
    } finally {
      for (const pid of daemons(world)) process.kill(pid, 'SIGKILL')
    }
    outcome.add(0, [...(await check(context.scene, store)), ...(await checkEmptied(store))])
  },
}

async function work(
  { scene, isLong, seed }: GroupContext,
  outcome: Outcome,
  world: DaemonWorld,
): Promise<void> {
  const layout = world.path('layout')
  writeOciLayout(layout, { x: buildImage({ tars: [buildTar([{ name: 'put', data: 'put' }])] }) })
  const confirmed = new Confirmed()
  await start(world)
  const order = new Random(seed).shuffle(FAULTS)
  await outcome.repeat(isLong ? 400 : 8, async (random, round) => {
    const fault = order[round % order.length] ?? 'SIGKILL'
    outcome.count(fault)
    const wrong = await breakUnderClients(
      world,
      { scene, confirmed, layout: `oci:${layout}:x`, fault },
      random,
      outcome,
    )
    await using loam = await connectLoam({ socket: world.apiSocket })
    wrong.push(...(await checkServed(loam, { world, scene, confirmed })))
    await destroySome(loam, confirmed, random)
    return wrong.map((one) => `${fault}: ${one}`)
  })
  outcome.require('answered')
  await stopAll(world)
  // What the daemons have said of themselves.
  const errors = readFileSync(world.log('loamd'), 'utf8')
  if (/"level":"error"|^(?!\{)./m.test(errors)) outcome.add(0, [`the daemons logged ${errors.slice(-2000)}`])
}

/** A client that reads nothing is given up soon. */
async function start(world: DaemonWorld): Promise<void> {
  await world.startDaemonWith({ LOAM_FETCHER_STALL_TIMEOUT: '2secs' }, '--log-level', 'error')
}

interface Round {
  readonly scene: Scene
  readonly confirmed: Confirmed
  readonly layout: string
  readonly fault: Fault
}

/** Lets all clients work, breaks the daemon, waits for all of them, and sees to it that a daemon serves again. */
async function breakUnderClients(
  world: DaemonWorld,
  { scene, confirmed, layout, fault }: Round,
  random: Random,
  outcome: Outcome,
): Promise<string[]> {
  const stop = new AbortController()
  const socket = world.apiSocket
  const images = scene.references
  const mayBeGone = () => fault !== 'SIGHUP'
  const clients = Array.from(
    { length: CLIENTS },
    () => new ApiClient({ socket, images, layout, confirmed, stop: stop.signal, mayBeGone }),
  )
  const another = () => new Random(random.below(2 ** 31))
  const working = clients.map(async (client) => client.run(another()))
  const disturbing = Array.from({ length: NUISANCES }, async () =>
    misbehave({ socket, images, confirmed }, another(), stop.signal),
  )
  await sleep(300 + random.below(700))
  const wrong = await breakDaemon(world, fault, random)
  stop.abort()
  await Promise.all([...working, ...disturbing])
  for (const { told, wrong: each } of clients) {
    wrong.push(...each)
    for (const [name, count] of Object.entries(told)) outcome.count(name, count)
  }
  if (!(await comesTrue(async () => daemons(world).length <= 1, ENDS_LIMIT_MS)))
    wrong.push(`there are still the daemons ${daemons(world).join()}`)
  if (daemons(world).length === 0) await start(world)
  return wrong
}

async function breakDaemon(world: DaemonWorld, fault: Fault, random: Random): Promise<string[]> {
  const [pid] = daemons(world)
  if (pid === undefined) return ['the daemon has ended by itself']
  const ended = async () =>
    until(async () => !daemons(world).includes(pid), `the daemon ends by ${fault}`, 20)
  if (fault === 'SIGKILL' || fault === 'SIGTERM') {
    const status = await stopOne(world, pid, fault)
    await ended()
    return fault === 'SIGTERM' && status !== undefined && status !== 0
      ? [`the stop ended with ${status}`]
      : []
  }
  process.kill(pid, 'SIGHUP')
  if (fault === 'SIGHUP') {
    // The clients go on until the other one answers, and a little longer.
    await until(async () => (await servingPid(world)) !== pid, 'another daemon answers', 20)
    await sleep(200)
    return []
  }
  await sleep(random.below(900))
  if (daemons(world).includes(pid)) process.kill(pid, 'SIGKILL')
  await ended()
  // The other one, if it was started, is about to serve, or finds that it cannot.
  await sleep(200)
  return []
}

/** Ends a daemon; its status is known of one that this process has started. */
async function stopOne(
  world: DaemonWorld,
  pid: number,
  signal: NodeJS.Signals,
): Promise<number | string | null | undefined> {
  if (world.isChild('loamd', pid)) return world.stop('loamd', signal)
  process.kill(pid, signal)
  return undefined
}

async function servingPid(world: DaemonWorld): Promise<number> {
  await using loam = await connectLoam({ socket: world.apiSocket })
  return loam.daemon.pid
}

/** Processes of this world's daemon. */
function daemons(world: DaemonWorld): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((pid) => pid !== process.pid && commandOf(pid).includes(`\0--root\0${world.root}\0`))
}

/** Empty where the process is gone, or is a zombie. */
function commandOf(pid: number): string {
  try {
    return readFileSync(join('/proc', String(pid), 'cmdline'), 'utf8')
  } catch {
    return ''
  }
}

/** So that there is not more to look at in each round. */
async function destroySome(loam: RemoteLoam, confirmed: Confirmed, random: Random): Promise<void> {
  for (const { id } of await loam.containers.list()) {
    if (random.next() < 0.5 && confirmed.containers.has(id)) continue
    confirmed.containers.delete(id)
    await loam.destroy(id)
  }
  confirmed.unsure.clear()
}

async function stopAll(world: DaemonWorld): Promise<void> {
  for (const pid of daemons(world)) await stopOne(world, pid, 'SIGTERM')
  await until(async () => daemons(world).length === 0, 'the daemon ends', 20)
}
