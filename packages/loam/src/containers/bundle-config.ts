import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { LoamError } from '../errors/index.ts'
import { parseStrictJson } from '../image/index.ts'
import type { RuntimeMount } from '../runtime/index.ts'

/** The first process of a container, as its bundle describes it: the parts that are read. The others are passed on. */
export interface BundleProcess {
  readonly args: readonly string[]
  readonly terminal?: boolean
  readonly env: readonly string[]
  readonly cwd: string
  readonly user: { readonly uid: number; readonly gid: number; readonly additionalGids?: readonly number[] }
  readonly capabilities: Readonly<Record<string, readonly string[]>>
}

/** Reads the first process of a bundle, which Loam has written. @throws INTERNAL for anything else */
export function readProcessOf(bundle: string, id: string): BundleProcess {
  const config = readConfig(bundle)
  if ('process' in config && typeof config.process === 'object' && config.process !== null)
    return config.process as BundleProcess
  throw new LoamError('INTERNAL', `read the bundle of ${id}: it has no process`)
}

/** Reads the mounts of a bundle. */
export function readMounts(bundle: string): BundleMount[] {
  const config = readConfig(bundle)
  return 'mounts' in config ? (config.mounts as BundleMount[]) : []
}

type BundleMount = Pick<RuntimeMount, 'destination'> & Partial<Pick<RuntimeMount, 'options'>>

/** Reads the configuration of a bundle, which Loam has written. */
export function readConfig(bundle: string): object {
  const config = parseStrictJson(readFileSync(join(bundle, 'config.json')), 'config.json')
  return typeof config === 'object' && config !== null ? config : {}
}
