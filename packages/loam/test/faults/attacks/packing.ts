// Root filesystems that change all the time while they are packed, measured and removed.
import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Loam } from '../../../src/index.ts'
import { removeTreeSync } from '../../../src/linux/index.ts'
import { addImage, type Attack, Attacker, type AttackPlace, type Trick } from './attack.ts'

const CONTAINER = 'web'
const CANARY = 'CANARY-OF-THE-HOST'
/** Root filesystems of bind are read-only. */
const WRITABLE = ['erofs', 'overlay', 'copy'] as const
const FILES = 200
const FORMATS = ['tar', 'oci', 'erofs', 'ext4'] as const

/** Runs an operation on a container, and returns the files that it has written. */
type Act = (loam: Loam, folder: string, time: number) => Promise<string[]>

const exports = FORMATS.map((format) =>
  attack(`a container is exported as ${format} while it changes`, async (loam, folder) => {
    const output = join(folder, 'out')
    removeTreeSync(output)
    await loam.export(CONTAINER, { format, output })
    return [output]
  }),
)

const commits = attack(
  'a container is committed while it changes',
  async (loam, folder, time) => {
    await loam.images.commit(CONTAINER, `committed:${time}`)
    const output = join(folder, 'out')
    rmSync(output, { force: true })
    await loam.export(`committed:${time}`, { format: 'tar', output })
    return [output]
  },
  // A copy has no changes of its own.
  ['erofs', 'overlay'],
)

const measures = attack('a container is measured while it changes', async (loam) => {
  await loam.store.usage()
  return Promise.resolve([])
})

export const packingAttacks: readonly Attack[] = [
  ...exports,
  commits,
  measures,
  {
    name: 'a snapshot is measured, diffed, committed and removed while it changes',
    backends: ['overlay'],
    run: attackSnapshots,
  },
  {
    name: 'a snapshot of an older containerd is imported while it changes',
    backends: ['overlay'],
    run: attackImport,
  },
  {
    name: 'a container is destroyed while it changes',
    backends: WRITABLE,
    run: attackRemoval,
  },
]

function attack(name: string, act: Act, backends: Attack['backends'] = WRITABLE): Attack {
  return { name, backends, run: async (place) => attackPacking(place, act) }
}

async function attackPacking(
  { scene, store, backend, isTime, count }: AttackPlace,
  act: Act,
): Promise<string[]> {
  const base = addImage(scene, 'hostile', [{ name: 'below/file', data: 'x' }])
  const host = plantCanary(store.folder)
  await using loam = await store.open()
  const { rootfsPath } = await loam.provision(base, { id: CONTAINER, backend })
  const tricks = prepare(rootfsPath, host)
  const wrong = new Set<string>()
  {
    await using attacker = await Attacker.start(tricks)
    let time = 0
    let counted = 0
    do {
      time += 1
      for (const output of await act(loam, store.folder, time)) {
        count('outputs')
        if (spawnSync('grep', ['-rqaF', CANARY, output]).status === 0)
          wrong.add('a file of the host is in the output')
        if (!holdsOwn(output)) wrong.add('a file that nobody touched is not in the output')
      }
      // Within the loop: it continues until there was a turn.
      count('turns', attacker.turns - counted)
      counted = attacker.turns
    } while (isTime() && wrong.size === 0)
  }
  await loam.destroy(CONTAINER)
  if (!existsSync(join(host, 'secret'))) wrong.add('a file of the host was removed')
  return [...wrong]
}

function holdsOwn(output: string): boolean {
  return spawnSync('grep', ['-rqaF', 'own and quiet', output]).status === 0
}

/** A snapshot's folder is the container's own on the disk, without an overlay between. */
async function attackSnapshots({ store, isTime, count }: AttackPlace): Promise<string[]> {
  const host = plantCanary(store.folder)
  await using loam = await store.open()
  const snapshotter = loam.snapshots.open()
  const wrong = new Set<string>()
  for (let time = 1; (time === 1 || isTime()) && wrong.size === 0; time += 1) {
    const [mount] = await snapshotter.prepare('active', '')
    const tricks = prepare(mount?.source ?? '', host)
    await using attacker = await Attacker.start(tricks)
    await snapshotter.usage('active')
    const output = join(store.folder, 'out')
    rmSync(output, { force: true })
    await loam.snapshots.diff('active', output)
    count('outputs')
    if (spawnSync('grep', ['-qaF', CANARY, output]).status === 0)
      wrong.add('a file of the host is in the output')
    if (!holdsOwn(output)) wrong.add('a file that nobody touched is not in the output')
    await snapshotter.commit({ name: `committed-${time}`, key: 'active' })
    await snapshotter.remove(`committed-${time}`)
    await snapshotter.cleanup()
    count('turns', attacker.turns)
  }
  if (!existsSync(join(host, 'secret'))) wrong.add('a file of the host was removed')
  const { failed } = await loam.recover()
  for (const { what, reason } of failed) wrong.add(`not removed: ${what}: ${reason}`)
  return [...wrong]
}

/** The container runs on the snapshot that is copied. */
async function attackImport({ store, isTime, count }: AttackPlace): Promise<string[]> {
  const host = plantCanary(store.folder)
  const root = join(store.folder, 'old')
  const snapshot = join(root, 'active', 'hash')
  for (const path of ['committed', 'index', 'active/hash/fs', 'active/hash/work'])
    mkdirSync(join(root, path), { recursive: true })
  writeFileSync(join(snapshot, 'name'), 'active')
  await using loam = await store.open()
  const snapshotter = loam.snapshots.open()
  const wrong = new Set<string>()
  await using attacker = await Attacker.start(prepare(join(snapshot, 'fs'), host))
  do {
    const { failed } = await loam.snapshots.import(root)
    for (const { what, reason } of failed) wrong.add(`not imported: ${what}: ${reason}`)
    if (wrong.size > 0) break
    const [mount] = await snapshotter.mounts('active')
    const copy = mount?.source ?? ''
    count('outputs')
    if (spawnSync('grep', ['-rqaF', CANARY, copy]).status === 0)
      wrong.add('a file of the host is in the copy')
    if (!holdsOwn(copy)) wrong.add('a file that nobody touched is not in the copy')
    await snapshotter.remove('active')
    await snapshotter.cleanup()
  } while (isTime() && wrong.size === 0)
  count('turns', attacker.turns)
  return [...wrong]
}

async function attackRemoval({
  scene,
  store,
  backend,
  isTime,
  count,
}: AttackPlace): Promise<readonly string[]> {
  const base = addImage(scene, 'hostile', [{ name: 'below/file', data: 'x' }])
  const host = plantCanary(store.folder)
  await using loam = await store.open()
  const wrong: string[] = []
  do {
    const { rootfsPath } = await loam.provision(base, { id: CONTAINER, backend })
    {
      // The working directory stays with the attacker, wherever the root filesystem goes.
      await using attacker = await Attacker.start(prepare('.', host, rootfsPath), rootfsPath)
      await loam.destroy(CONTAINER).catch(() => count('destroys that did not end it'))
      count('turns', attacker.turns)
    }
    await loam.destroy(CONTAINER)
    const { failed } = await loam.recover()
    wrong.push(...failed.map(({ what, reason }) => `not removed: ${what}: ${reason}`))
    if (!existsSync(join(host, 'secret'))) wrong.push('a file of the host was removed')
  } while (isTime() && wrong.length === 0)
  return wrong
}

function plantCanary(folder: string): string {
  const host = join(folder, 'victim')
  mkdirSync(host, { recursive: true })
  for (const name of ['secret', '!00000', 'file']) writeFileSync(join(host, name), CANARY)
  return host
}

/** Fills a root filesystem with the files that the attacker swaps; the attacker names it by `root`. */
function prepare(root: string, host: string, from = root): Trick[] {
  for (const name of ['swapped', 'taken', 'quiet', 'wide/in/it', 'elsewhere'])
    mkdirSync(join(from, name), { recursive: true })
  for (const folder of ['swapped', 'taken', 'wide/in/it']) {
    for (let index = 0; index < FILES; index += 1)
      writeFileSync(join(from, folder, `!${String(index).padStart(5, '0')}`), '')
  }
  writeFileSync(join(from, 'swapped/secret'), 'own')
  writeFileSync(join(from, 'quiet/file'), 'own and quiet')
  writeFileSync(join(from, 'file'), 'own')
  symlinkSync(host, join(from, 'link'))
  symlinkSync(join(host, 'secret'), join(from, 'file-link'))
  const at = (name: string) => `${root}/${name}`
  return [
    { kind: 'exchange', path: at('swapped'), other: at('link') },
    { kind: 'exchange', path: at('file'), other: at('file-link') },
    { kind: 'swap', path: at('taken'), symlink: host },
    { kind: 'move', path: at('wide/in'), other: at('elsewhere/in') },
    { kind: 'replace', path: at('turning'), symlink: join(host, 'secret') },
  ]
}
