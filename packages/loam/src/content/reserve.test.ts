import assert from 'node:assert/strict'
import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { LoamError } from '../errors/index.ts'
import { StoreReserve } from './reserve.ts'
import { openStoreRoot } from './store-root.ts'
import type { StorePaths } from './store-paths.ts'

describe('the reserve of a store', () => {
  const withStore = async (use: (paths: StorePaths) => Promise<void>) => {
    const folder = mkdtempSync(join(tmpdir(), 'loam-reserve-'))
    try {
      await use(openStoreRoot(join(folder, 'store')))
    } finally {
      rmSync(folder, { recursive: true })
    }
  }
  const filesOf = ({ reserve }: StorePaths) => readdirSync(reserve).length

  /** The work of a caller that meets a full disk at first, and then runs until `end`. */
  const needing = (end: Promise<void>) => {
    let tries = 0
    return async () => {
      tries += 1
      if (tries === 1) throw new LoamError('NO_SPACE', 'write: the disk is full')
      await end
    }
  }

  for (const name of ['freeLater', 'freeQuickly'] as const) {
    test(`${name}: a call that ends keeps the reserve that another call still needs`, async () => {
      await withStore(async (paths) => {
        const reserve = new StoreReserve(paths)
        reserve.fill()
        assert.equal(filesOf(paths), 32)
        const { promise, resolve } = Promise.withResolvers<void>()
        const first = reserve[name](needing(promise))
        await new Promise(setImmediate)
        assert.equal(filesOf(paths), 0)

        await reserve.freeLater(async () => undefined)
        reserve.free(() => undefined)
        await reserve[name](needing(Promise.resolve()))
        assert.equal(filesOf(paths), 0)
        // Another process does not refill it either.
        new StoreReserve(paths).fill()
        assert.equal(filesOf(paths), 0)

        resolve()
        await first
        assert.equal(filesOf(paths), 32)
      })
    })
  }
})
