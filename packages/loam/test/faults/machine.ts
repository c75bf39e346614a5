// R4, R5, R6 and R10: a machine that lacks a resource, that fails, or whose clock is wrong.
import { execFileSync, spawnSync } from 'node:child_process'
import { randomFillSync } from 'node:crypto'
import { existsSync, mkdirSync, readFileSync, rmdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { buildImage, buildTar } from '../../src/testing/index.ts'
import { check, checkEmptied } from './invariants.ts'
import { allCalls, fillIn, injecting, VERBS } from './kills.ts'
import type { Group, Outcome } from './outcome.ts'
import { type Scene, Store, type VerbResult, WORK_FOLDER } from './scene.ts'

function shell(command: string): void {
  execFileSync('sh', ['-ec', command], { stdio: ['ignore', 'ignore', 'pipe'] })
}

/** I8: a failure is one JSON object with a code and a message, and status 1; no stack trace. */
function checkFailure({ status, stdout, stderr }: VerbResult, allowed: readonly string[] = []): string[] {
  if (status === 0) return []
  const wrong: string[] = []
  if (status !== 1) wrong.push(`I8: status ${status}: ${stderr.slice(-300)}`)
  if (stdout !== '') wrong.push('I8: a failure with a result')
  const last = stderr.trim().split('\n').at(-1) ?? ''
  try {
    const { error } = JSON.parse(last) as { error: { code: string; message: string } }
    if (error.message === '' || / {4}at /.test(stderr))
      wrong.push(`I8: a stack trace: ${stderr.slice(0, 300)}`)
    if (allowed.length > 0 && !allowed.includes(error.code)) wrong.push(`I8: told as ${last.slice(0, 300)}`)
  } catch {
    wrong.push(`I8: no JSON: ${stderr.slice(-300)}`)
  }
  return wrong
}

/** A file that fills a disk, and frees it again. */
const LITTLE_SPACE = {
  bytes: {
    make: (folder: string, step: number) => `mount -t tmpfs -o size=${200 + step * 300}k none ${folder}`,
    more: (folder: string) => `mount -o remount,size=200m ${folder}`,
  },
  inodes: {
    make: (folder: string, step: number) => `mount -t tmpfs -o nr_inodes=${8 + step * 14} none ${folder}`,
    more: (folder: string) => `mount -o remount,nr_inodes=10000 ${folder}`,
  },
  quota: {
    make: (folder: string, step: number) =>
      `truncate -s 300M ${folder}.img; mkfs.btrfs -q ${folder}.img; mount -o loop ${folder}.img ${folder}; btrfs quota enable ${folder}; btrfs qgroup limit ${2000 + step * 300}k ${folder}`,
    more: (folder: string) => `btrfs qgroup limit none ${folder}`,
  },
} as const

/** Sizes of the disks. */
const STEPS = 25

export const littleSpace: Group = {
  id: 'R4',
  what: 'no space, no inodes and quotas, then room',
  run: async ({ scene }, outcome) => {
    const plan = Object.entries(LITTLE_SPACE).flatMap(([kind, disk]) =>
      [
        ['pull', 'IMAGE'],
        ['provision', '--backend', 'copy', '--id', 'c', 'IMAGE'],
      ].flatMap((verb) => Array.from({ length: STEPS }, (_value, step) => ({ kind, disk, verb, step }))),
    )
    await outcome.repeatCases(plan, 10, async ({ kind, disk, verb, step }, random) => {
      const folder = join(WORK_FOLDER, `space-${kind}-${verb[0]}-${step}`)
      mkdirSync(folder)
      shell(disk.make(folder, step))
      const store = new Store(join(folder, 'place'))
      try {
        const result = await store.run({}, ...fillIn(verb, random.pick(scene.references)))
        if (result.status !== 0) outcome.count('failed')
        const wrong = checkFailure(result, ['NO_SPACE'])
        // Removing works on a full disk.
        const pruned = result.status === 0 ? result : await store.run({}, 'prune', '--all', '--local')
        wrong.push(...checkFailure(pruned, ['NO_SPACE']))
        shell(disk.more(folder))
        wrong.push(...(await check(scene, store)), ...(await checkEmptied(store)))
        return wrong.map((one) => `${kind} ${step}, ${verb[0]}: ${one}`)
      } finally {
        store.unmountAll()
        spawnSync('umount', [folder])
        rmSync(folder, { recursive: true, force: true })
        rmSync(`${folder}.img`, { force: true })
      }
    })
    outcome.require('failed')
  },
}

export const ioErrors: Group = {
  id: 'R5',
  what: 'EIO and ENOSPC at the n-th changing call of each verb, once and from then on',
  run: async ({ scene }, outcome) => {
    const image = scene.references[1] ?? ''
    const calls = await allCalls(scene, outcome)
    const plan = calls.flatMap((one) =>
      ['EIO', 'ENOSPC'].flatMap((error) =>
        [`${one.at}`, `${one.at}+`].map((when) => ({ ...one, error, when })),
      ),
    )
    await outcome.repeatCases(plan, 8, async ({ name, call, error, when }) => {
      const { before, verb } = VERBS[name] ?? { before: [], verb: [] }
      using store = new Store()
      for (const one of before) await store.run({}, ...fillIn(one, image))
      const result = await store.run(injecting(call, `error=${error}:when=${when}`), ...fillIn(verb, image))
      if (result.status !== 0) outcome.count('failed')
      const wrong = [...checkFailure(result), ...(await check(scene, store)), ...(await checkEmptied(store))]
      return wrong.map((one) => `${name}, ${error} at ${call} ${when}: ${one}`)
    })
    outcome.require('failed')
  },
}

/** Limits of a process, as programs before the command. */
const LITTLE_OF_A_PROCESS: Readonly<Record<string, readonly string[]>> = {
  ...Object.fromEntries(
    [24, 32, 40, 64, 128, 256].map((count) => [`${count} open files`, ['prlimit', `--nofile=${count}`]]),
  ),
  ...Object.fromEntries(
    [4, 64, 512, 2048].map((kib) => [`files of ${kib} KiB`, ['prlimit', `--fsize=${kib * 1024}`]]),
  ),
}

export const littleOfAProcess: Group = {
  id: 'R6',
  what: 'few open files, small files, little memory',
  run: async ({ scene, isLong, onlyRound }, outcome) => {
    const image = scene.references[1] ?? ''
    const plan = Object.entries(LITTLE_OF_A_PROCESS).flatMap(([name, wrapper]) =>
      [
        ['pull', image],
        ['provision', '--id', 'c', image],
      ].map((verb) => ({ name, wrapper, verb })),
    )
    await outcome.repeatCases(plan, 10, async ({ name, wrapper, verb }) => {
      using store = new Store()
      const result = await store.run({ wrapper }, ...verb)
      if (result.status !== 0) outcome.count('failed')
      // Node itself cannot load its modules with fewer.
      const failure = /^(?:24|32|40) open/.test(name) ? [] : checkFailure(result)
      const wrong = [...failure, ...(await check(scene, store)), ...(await checkEmptied(store))]
      return wrong.map((one) => `${name}, ${verb[0]}: ${one}`)
    })
    outcome.require('failed')
    if (onlyRound !== undefined) return
    using store = new Store()
    const mebibytes = isLong ? 2048 : 512
    outcome.rounds += 1
    const wrong = await pullLargeLayer(scene, store, mebibytes, outcome)
    outcome.add(
      0,
      wrong.map((one) => `a layer of ${mebibytes} MiB in ${MEMORY_LIMIT_BYTES >> 20} MiB: ${one}`),
    )
  },
}

const MEMORY_CGROUPS = '/sys/fs/cgroup/memory'
const MEMORY_LIMIT_BYTES = 256 << 20
const RESIDENT_LIMIT_KIB = 200 * 1024

/** One layer of many MiB, which neither fits into memory nor compresses well. */
async function pullLargeLayer(
  { server }: Scene,
  store: Store,
  mebibytes: number,
  outcome: Outcome,
): Promise<string[]> {
  const block = Buffer.alloc(20 << 10)
  const file = Buffer.alloc(64 << 20)
  const entries = Array.from({ length: mebibytes / 64 }, (_value, index) => {
    for (let at = 0; at < file.length; at += block.length) {
      randomFillSync(block, 0, 512)
      block.copy(file, at)
    }
    return { name: `f${index}`, data: Buffer.from(file) }
  })
  server.addImage('large', '1', buildImage({ tars: [buildTar(entries)] }))
  using group = createMemoryGroup()
  const pidFile = join(store.folder, 'pid')
  writeFileSync(pidFile, '')
  let residentKib = 0
  const watch = setInterval(() => {
    residentKib = Math.max(residentKib, peakOf(readFileSync(pidFile, 'utf8').trim()))
  }, 20)
  try {
    const inside = ['sh', '-ec', `echo $$ > ${pidFile}; ${group.join} exec "$@"`, 'sh']
    const { status, stderr } = await store.run({ wrapper: inside }, 'pull', `${server.host}/large:1`)
    const wrong = status === 0 ? [] : [`it ended with ${status}: ${stderr.slice(-300)}`]
    outcome.figures['MiB resident at most'] = residentKib >> 10
    if (group.join === '') outcome.figures['memory cgroup'] = 'none here'
    if (residentKib > RESIDENT_LIMIT_KIB) wrong.push(`it took ${residentKib >> 10} MiB of memory`)
    if (residentKib === 0) wrong.push('its memory was not seen')
    return wrong
  } finally {
    clearInterval(watch)
  }
}

/** A cgroup with little memory, on machines with cgroups of version 1; `join` is the shell line for joining it. */
function createMemoryGroup(): Disposable & { readonly join: string } {
  if (!existsSync(join(MEMORY_CGROUPS, 'memory.limit_in_bytes')))
    return { join: '', [Symbol.dispose]: () => undefined }
  const folder = join(MEMORY_CGROUPS, `loam-faults-${process.pid}`)
  mkdirSync(folder)
  writeFileSync(join(folder, 'memory.limit_in_bytes'), String(MEMORY_LIMIT_BYTES))
  return {
    join: `echo $$ > ${folder}/cgroup.procs;`,
    [Symbol.dispose]: () => {
      rmdirSync(folder)
    },
  }
}

/** Peak memory of a process, in KiB (proc(5), VmHWM). */
function peakOf(pid: string): number {
  try {
    return Number(/VmHWM:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? 0)
  } catch {
    return 0
  }
}

export const wrongClocks: Group = {
  id: 'R10',
  what: 'clocks that jump a day or two years',
  run: async ({ scene, onlyRound }, outcome) => {
    const offsets = ['-1d', '+1d', '-2y', '+2y', '-1h']
    await outcome.repeat(onlyRound === undefined ? offsets.length : onlyRound + 1, async (random, round) => {
      using store = new Store()
      const image = random.pick(scene.references)
      const away = { wrapper: ['faketime', '-f', offsets[round] ?? '-1d'] }
      const wrong: string[] = []
      for (const [options, verb] of [
        [away, ['pull', image]],
        [{}, ['provision', '--id', 'a', image]],
        [away, ['provision', '--id', 'b', image]],
        [{}, ['recover']],
        [away, ['destroy', 'a']],
        [away, ['prune', '--all', '--local']],
        [{}, ['fsck']],
      ] as const) {
        const { status, stderr } = await store.run(options, ...verb)
        if (status !== 0) wrong.push(`${verb.join(' ')} ended with ${status}: ${stderr.slice(-300)}`)
      }
      wrong.push(...(await check(scene, store)), ...(await checkEmptied(store)))
      return wrong.map((one) => `${offsets[round]}: ${one}`)
    })
  },
}
