import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { StoreUsage } from '../../src/index.ts'
import { endHolder, findHolders } from '../../src/linux/index.ts'
import { ok, World } from './world.ts'

/** A store, and the process that fills its layers. */
export class LazyWorld extends World {
  override [Symbol.dispose](): void {
    // The process ends when nothing is partial; its descriptors are ended first, so that no read of the clean-up waits.
    for (const holder of findHolders(join(this.state, 'lazy'))) endHolder(holder)
    super[Symbol.dispose]()
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

function partialIn(df: string): string[] {
  const { layers } = JSON.parse(df) as StoreUsage
  return layers.flatMap(({ diffId, partialOfBytes }) => (partialOfBytes === undefined ? [] : [diffId]))
}
