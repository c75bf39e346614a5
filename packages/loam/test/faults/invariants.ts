// The invariants after every fault and a recovery (I1 to I9).
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import type { ContainerInfo, Loam } from '../../src/index.ts'
import { diskUsage } from '../../src/linux/index.ts'
import { listTree } from '../../src/testing/index.ts'
import type { Scene, Store } from './scene.ts'

const RECOVERY_LIMIT_MS = 5000
const EMPTY_STORE_BYTES = 1 << 20

export interface Expectations {
  /** References whose pull was acknowledged: they are in the store, and no part of them is fetched again. */
  readonly pulled?: ReadonlySet<string>
  /** Containers that were acknowledged, with the data written to them; they survive a kill. */
  readonly containers?: ReadonlyMap<string, { readonly image: string; readonly written: string }>
  /** A power cut may remove containers, but no part of one. */
  readonly isPowerCut?: boolean
  readonly backend?: string
}

/** Recovers a store, checks all of it, and returns the violations. Sound containers are left in place. */
export async function check(scene: Scene, store: Store, expectations: Expectations = {}): Promise<string[]> {
  const wrong = store.hung.splice(0).map((verb) => `I8: it did not end: ${verb}`)
  try {
    await using loam = await store.open()
    await checkRecovery(loam, wrong)
    await checkContainers(loam, expectations, wrong)
    await checkImages(scene, loam, expectations, wrong)
    await checkSoundness(loam, store, wrong)
  } catch (error) {
    wrong.push(`the check itself failed: ${error instanceof Error ? error.stack : String(error)}`)
  }
  if (readdirSync(store.outside).join() !== 'canary' || read(join(store.outside, 'canary')) !== 'untouched')
    wrong.push('I9: something outside of the store was touched')
  const left = ['ingest', 'trash'].flatMap((name) => readdirSync(join(store.root, name)))
  if (left.length > 0) wrong.push(`I5: left behind: ${left.join()}`)
  return wrong
}

async function checkRecovery(loam: Loam, wrong: string[]): Promise<void> {
  const start = performance.now()
  const first = await loam.recover()
  const tookMs = performance.now() - start
  if (tookMs > RECOVERY_LIMIT_MS) wrong.push(`I1: recovery took ${tookMs} ms`)
  if (first.failed.length + first.quarantined.length > 0)
    wrong.push(`I1: recovery could not put right ${JSON.stringify([first.failed, first.quarantined])}`)
  const { undone, restored, swept } = await loam.recover()
  if (undone.length + restored.length + swept.length > 0)
    wrong.push(`I1: a second recovery changed ${JSON.stringify({ undone, restored, swept })}`)
}

async function checkContainers(loam: Loam, expectations: Expectations, wrong: string[]): Promise<void> {
  const containers = await loam.containers.list()
  const listed = new Map<string, ContainerInfo>(containers.map((one) => [one.id, one]))
  for (const [id, { written }] of expectations.containers ?? []) {
    const rootfsPath = listed.get(id)?.rootfses[0]?.rootfsPath
    if (rootfsPath === undefined) {
      if (expectations.isPowerCut !== true) wrong.push(`I4: container ${id} is gone`)
      continue
    }
    if (expectations.isPowerCut !== true && read(join(rootfsPath, 'written')) !== written)
      wrong.push(`I4: what was written to container ${id} is gone`)
  }
}

async function checkImages(
  scene: Scene,
  loam: Loam,
  expectations: Expectations,
  wrong: string[],
): Promise<void> {
  const before = scene.server.requests.length
  const listed = new Set((await loam.images.list()).flatMap(({ names }) => names))
  for (const reference of expectations.pulled ?? []) {
    if (!listed.has(reference)) wrong.push(`I2: image ${reference} is gone, and its pull was acknowledged`)
  }
  for (const [reference, tree] of scene.trees) {
    const isListed = listed.has(reference)
    const from = scene.server.requests.length
    const { rootfsPath } = await loam.provision(reference, { id: 'check', backend: expectations.backend })
    const found = listTree(rootfsPath)
    if (found.join('\n') !== tree.join('\n')) wrong.push(`I2: ${reference} shows ${difference(found, tree)}`)
    await loam.destroy('check')
    const blobs = scene.server.requests.slice(from).filter((request) => request.includes('/blobs/'))
    const isOwed = expectations.pulled?.has(reference) === true
    if (isListed && isOwed && blobs.length > 0)
      wrong.push(`I6: ${blobs.length} blobs of ${reference} were fetched again`)
  }
  scene.server.requests.splice(before)
}

async function checkSoundness(loam: Loam, store: Store, wrong: string[]): Promise<void> {
  const { problems } = await loam.store.fsck({ repair: false })
  for (const { what, problem } of problems) wrong.push(`I3: ${what}: ${problem}`)
  const recorded = (await loam.containers.list()).flatMap(({ rootfses }) =>
    rootfses.map(({ rootfsPath }) => rootfsPath),
  )
  const mounted = store.mounts().filter((path) => path.startsWith(`${store.root}/`))
  for (const path of mounted) if (!recorded.includes(path)) wrong.push(`I5: ${path} is mounted`)
}

/** I7: the rest of a store after everything was removed. */
export async function checkEmptied(store: Store): Promise<string[]> {
  const wrong: string[] = []
  {
    await using loam = await store.open()
    for (const { id } of (await loam.containers.list()).toReversed()) await loam.destroy(id)
    await loam.images.prune({ all: true, local: true })
  }
  if (store.mounts().length > 0) wrong.push(`I5: still mounted: ${store.mounts().join()}`)
  const bytes = ['blobs', 'layers', 'images', 'containers', 'trash', 'ingest', 'quarantine']
    .map((name) => join(store.root, name))
    .filter((path) => existsSync(path) && statSync(path).isDirectory())
    .reduce((sum, path) => sum + diskUsage(path).bytes, 0)
  if (bytes > EMPTY_STORE_BYTES) wrong.push(`I7: ${bytes} bytes are left of an empty store`)
  return wrong
}

function read(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return undefined
  }
}

function difference(found: readonly string[], expected: readonly string[]): string {
  const extra = found.filter((line) => !expected.includes(line)).slice(0, 3)
  const missing = expected.filter((line) => !found.includes(line)).slice(0, 3)
  return JSON.stringify({ extra, missing })
}
