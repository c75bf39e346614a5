// R3 and R14: power cuts. A disk image lies on btrfs, and its reflink copy has the content of the disk at that moment: data that was not
// flushed is not in it. The same with fsync turned off (libeatmydata) has to show violations.
import { spawn, spawnSync, execFileSync, type ChildProcess } from 'node:child_process'
import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { check, type Expectations } from './invariants.ts'
import type { Group, GroupContext, Outcome } from './outcome.ts'
import type { Random } from './random.ts'
import { Store, WORK_FOLDER } from './scene.ts'
import { rounds } from '../support/rounds.ts'

const HOST = join(WORK_FOLDER, 'host')
const DISK = join(HOST, 'disk.img')
const MOUNT = join(WORK_FOLDER, 'disk')
const BOOT_ID = '/proc/sys/kernel/random/boot_id'
const CARELESS = '/usr/lib/x86_64-linux-gnu/libeatmydata.so'
const FILE_SYSTEMS = {
  'ext4, commit=1000': ['mkfs.ext4 -q -F', 'commit=1000'],
  'ext4, commit=5': ['mkfs.ext4 -q -F', 'commit=5'],
  xfs: ['mkfs.xfs -q -f', 'defaults'],
} as const
const FILE_SYSTEM_NAMES = ['ext4, commit=1000', 'ext4, commit=5', 'xfs'] as const

function shell(command: string): void {
  execFileSync('sh', ['-ec', command], { stdio: ['ignore', 'ignore', 'pipe'] })
}

/** The file system that holds the disk images. */
function createHost(): Disposable {
  mkdirSync(HOST, { recursive: true })
  mkdirSync(MOUNT, { recursive: true })
  const image = join(WORK_FOLDER, 'host.img')
  shell(`truncate -s 6G ${image}; mkfs.btrfs -q ${image}; mount -o loop ${image} ${HOST}`)
  return {
    [Symbol.dispose]: () => {
      spawnSync('umount', ['-R', HOST])
      rmSync(image, { force: true })
    },
  }
}

/** Syncs of other processes bring the names of a store to the disk before its data. */
function startNeighbour(): ChildProcess {
  const script = `i=0; while :; do i=$((i+1)); dd if=/dev/zero of=${MOUNT}/neighbour bs=4k count=1 conv=fsync 2>/dev/null; sleep 0.03; done`
  return spawn('sh', ['-c', script], { stdio: 'ignore', detached: true })
}

/** Cuts the power: data that a process has not flushed is lost, and the next boot has another id. The old file system stays until it is not used any more. */
function cut(store: Store, isXfs: boolean): void {
  const clone = join(HOST, 'clone.img')
  shell(`cp --reflink=always ${DISK} ${clone}`)
  store.unmountAll()
  shell(`umount -l ${MOUNT}; mv ${clone} ${DISK}; mount -o loop${isXfs ? ',nouuid' : ''} ${DISK} ${MOUNT}`)
  const bootId = join(WORK_FOLDER, 'boot-id')
  writeFileSync(bootId, `${crypto.randomUUID()}\n`)
  spawnSync('umount', [BOOT_ID])
  shell(`mount --bind ${bootId} ${BOOT_ID}`)
}

async function cutOnce(
  { scene }: GroupContext,
  outcome: Outcome,
  random: Random,
  careless?: { readonly env: NodeJS.ProcessEnv },
): Promise<string[]> {
  // Without syncs, names reach the disk long before data does.
  const name = careless === undefined ? random.pick(FILE_SYSTEM_NAMES) : 'ext4, commit=1000'
  const [make, options] = FILE_SYSTEMS[name]
  shell(`truncate -s 700M ${DISK}; ${make} ${DISK}; mount -o loop,${options} ${DISK} ${MOUNT}`)
  const store = new Store(join(MOUNT, 'place'))
  const neighbour = random.next() < 0.7 || careless !== undefined ? startNeighbour() : undefined
  try {
    const backend = random.pick(['erofs', 'overlay', 'copy'])
    const image = random.pick(scene.references)
    const isPull = random.next() < 0.5
    const verb = isPull ? ['pull', image] : ['provision', '--backend', backend, '--id', 'c', image]
    // The store exists before, as it mostly does.
    await store.run({}, 'images')
    shell(`sync -f ${MOUNT}`)
    const isLate = random.next() < 0.5 || careless !== undefined
    const running = store.run({ env: careless?.env }, ...verb)
    const result = isLate ? await running : undefined
    await sleep(random.next() * (isLate ? 400 : 900))
    neighbour?.kill('SIGSTOP')
    cut(store, name === 'xfs')
    const isAcknowledged = result?.status === 0
    if (isAcknowledged) outcome.count('cut behind the acknowledgement')
    await running
    const expectations: Expectations = {
      pulled: new Set(isPull && isAcknowledged ? [image] : []),
      containers: new Map(),
      isPowerCut: true,
      backend,
    }
    const wrong = await check(scene, store, expectations)
    return wrong.map((one) => `${name}, ${verb.join(' ')}: ${one}`)
  } finally {
    if (neighbour?.pid !== undefined) process.kill(-neighbour.pid, 'SIGKILL')
    await sleep(20)
    store.unmountAll()
    spawnSync('umount', [BOOT_ID])
    for (let tries = 0; tries < 5 && spawnSync('umount', [MOUNT]).status === 0; tries += 1);
    rmSync(DISK, { force: true })
  }
}

export const powerCuts: Group = {
  id: 'R3',
  what: 'power cuts on ext4 and xfs, half of them behind the acknowledgement',
  run: async (context, outcome) => {
    using _host = createHost()
    await outcome.repeat(context.isLong ? 500 : 6, async (random) => cutOnce(context, outcome, random))
    outcome.require('cut behind the acknowledgement')
  },
}

export const carelessStores: Group = {
  id: 'R14',
  what: 'the same with fsync turned off, which has to show violations',
  run: async (context, outcome) => {
    using _host = createHost()
    const [most, enough] = context.isLong ? [200, 20] : [160, rounds(3, 1)]
    let [tried, found] = [0, 0]
    await outcome.repeat(most, async (random) => {
      if (found === enough) return []
      tried += 1
      const wrong = await cutOnce(context, outcome, random, { env: { LD_PRELOAD: CARELESS } })
      if (wrong.length > 0) found += 1
      return []
    })
    outcome.rounds = tried
    outcome.figures['found wrong'] = found
    if (found < enough)
      outcome.add(0, [`R14: of ${most} stores without fsync only ${found} were found wrong`])
  },
}
