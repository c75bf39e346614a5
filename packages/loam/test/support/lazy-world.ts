import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { StoreUsage } from '../../src/index.ts'
import { endHolder, findHolders } from '../../src/linux/index.ts'
import { ok, World } from './world.ts'

/** A store, and the process that fills its layers. */
export class LazyWorld extends World {
  override [Symbol.dispose](): void {
    this.endHandlers()
    super[Symbol.dispose]()
  }

  /** Ends the handler with the shell that starts it again, and what keeps its descriptors: afterwards no read waits, as in the next boot. */
  endHandlers(): void {
    endHandlers(this.state)
  }

  async untilComplete(): Promise<void> {
    while (this.partial().length > 0) await sleep(50)
  }

  partial(): string[] {
    return partialIn(ok(this.loam('--json', 'df')).stdout)
  }

  /** As `partial`, while this process has other work to do. */
  async partialLater(): Promise<string[]> {
    return partialIn(ok(await this.loamAsync('--json', 'df')).stdout)
  }
}

/** Ends the handler of a state directory, and what keeps its descriptors. */
export function endHandlers(state: string): void {
  const isHandler = (pid: string) => {
    const words = commandOf(pid)
    return words.includes('lazyd') && words.includes(state)
  }
  // A shell may have started another one meanwhile.
  for (let pids = pidsOf(isHandler); pids.length > 0; pids = pidsOf(isHandler))
    for (const pid of pids) kill(Number(pid))
  for (const holder of findHolders(join(state, 'lazy'))) endHolder(holder)
}

function partialIn(df: string): string[] {
  const { layers } = JSON.parse(df) as StoreUsage
  return layers.flatMap(({ diffId, partialOfBytes }) => (partialOfBytes === undefined ? [] : [diffId]))
}

function pidsOf(isWanted: (pid: string) => boolean): string[] {
  return readdirSync('/proc').filter((name) => /^\d+$/.test(name) && isWanted(name))
}

function commandOf(pid: string): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'latin1')
  } catch {
    // It has ended.
    return ''
  }
}

function kill(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL')
  } catch {
    // It has ended.
  }
}
