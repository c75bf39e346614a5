import { closeSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import * as v from 'valibot'
import { isErrno } from '../errors/index.ts'
import { type DiffId, parseDiffId } from '../image/index.ts'
import {
  endHolder,
  findHolders,
  holdDescriptors,
  isHolding,
  readBootId,
  type ProcessIdentity,
  takeHeld,
  unlinkIfThere,
} from '../linux/index.ts'
import type { LazyPaths } from './lazy-paths.ts'

const RECORD = v.object({
  pid: v.number(),
  startTime: v.number(),
  bootId: v.string(),
  tars: v.array(v.string()),
})

/** The descriptors that outlive a handler: the group, and those of tars from before their marks. */
export interface KeptDescriptors {
  readonly group: number
  readonly tars: ReadonlyMap<DiffId, number>
}

/** Keeps the descriptors of a handler in another process, for the next handler. */
export class DescriptorKeeper {
  readonly #paths: LazyPaths
  readonly #path: string
  #holder: ProcessIdentity | undefined

  /** `path`: where programs are found. */
  constructor(paths: LazyPaths, path: string) {
    this.#paths = paths
    this.#path = path
  }

  /** Takes the descriptors of the handler before; undefined if there are none. The caller owns them. @throws system errors */
  takeOver(): KeptDescriptors | undefined {
    const record = this.#read()
    const taken = record === undefined ? undefined : takeHeld(record, record.tars.length + 1)
    // A handler that was killed while it replaced its holder has left two.
    for (const holder of findHolders(this.#paths.folder)) if (holder.pid !== record?.pid) endHolder(holder)
    if (record === undefined || taken === undefined) return undefined
    this.#holder = record
    const [group = -1, ...fds] = taken
    return {
      group,
      tars: new Map(record.tars.map((diffId, index) => [parseDiffId(diffId), fds[index] ?? -1])),
    }
  }

  #read(): v.InferOutput<typeof RECORD> | undefined {
    try {
      const record = v.parse(RECORD, JSON.parse(readFileSync(this.#paths.holder, 'utf8')))
      // In another boot the same number and time are those of another process.
      return record.bootId === readBootId() ? record : undefined
    } catch (error) {
      if (isErrno(error, 'ENOENT') || error instanceof SyntaxError || v.isValiError(error)) return undefined
      throw error
    }
  }

  /** Whether the process that keeps the descriptors has ended. */
  get isLost(): boolean {
    return this.#holder !== undefined && !isHolding(this.#holder)
  }

  /** Keeps these descriptors from now on, and no others. @throws PROGRAM_FAILED, system errors: then the old ones are kept */
  async keep({ group, tars }: KeptDescriptors): Promise<void> {
    const before = this.#holder
    const holder = await holdDescriptors([group, ...tars.values()], {
      path: this.#path,
      marker: this.#paths.folder,
    })
    try {
      const own = `${this.#paths.holder}.new`
      writeFileSync(own, JSON.stringify({ ...holder, bootId: readBootId(), tars: [...tars.keys()] }), {
        mode: 0o600,
      })
      renameSync(own, this.#paths.holder)
    } catch (error) {
      endHolder(holder)
      throw error
    }
    this.#holder = holder
    if (before !== undefined) endHolder(before)
  }

  /** Lets go of everything. */
  end(group: number): void {
    unlinkIfThere(this.#paths.holder)
    if (this.#holder !== undefined) endHolder(this.#holder)
    closeSync(group)
  }
}
