import assert from 'node:assert/strict'
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { IngestArea, openStoreRoot, RetainedBlobs, type StorePaths } from '../content/index.ts'
import { isLoamError, LoamError } from '../errors/index.ts'
import { digestOf, parseDiffId } from '../image/index.ts'
import { MetadataStore, parseContainerId } from '../metadata/index.ts'
import { buildTar } from '../testing/index.ts'
import { DEFAULT_LAYER_LIMITS } from '../tree/index.ts'
import { newArtifactRecord } from './artifact-record.ts'
import { type LayerFiller, type LayerProgress, LayerStore, type LazyParts, WorkerPool } from './index.ts'

const tar = buildTar([{ name: 'file', data: 'content '.repeat(1000) }])
const diffId = parseDiffId(digestOf(tar))
const blob = { digest: digestOf(tar), sizeBytes: tar.length }
const otherTar = buildTar([{ name: 'file', data: 'other content' }])

const THIS_BOOT = '00000000-0000-0000-0000-000000000001'
const NEXT_BOOT = '00000000-0000-0000-0000-000000000002'

/** A store whose partial layers are filled by the test, and what was asked of it. */
class Store implements AsyncDisposable {
  readonly paths: StorePaths
  readonly layers: LayerStore
  readonly metadata: MetadataStore
  readonly asked: string[] = []
  readonly progress: LayerProgress[] = []
  filler: { -readonly [Name in keyof LayerFiller]?: LayerFiller[Name] } = {}
  /** What the source of the index has. */
  indexed = tar
  readonly #workers: WorkerPool
  readonly #ingest: IngestArea

  private constructor(paths: StorePaths, metadata: MetadataStore, workers: WorkerPool, bootId: string) {
    this.paths = paths
    this.metadata = metadata
    this.#workers = workers
    this.#ingest = new IngestArea(paths)
    const lazy: LazyParts = {
      whyNever: () => undefined,
      whyNot: async () => undefined,
      filler: {
        prepare: () => undefined,
        release: () => {
          this.asked.push('release')
        },
        serve: async (diffIds) => {
          this.asked.push('serve')
          await this.filler.serve?.(diffIds)
        },
        complete: async (id, options) => {
          this.asked.push('complete')
          if (this.filler.complete !== undefined) return this.filler.complete(id, options)
          options.onProgress?.(1, tar.length)
          writeFileSync(this.path('layer.tar'), tar)
          await metadata.layers.complete(diffId, newArtifactRecord(diffId, 'tar', bootId))
        },
        resume: async (diffIds) => {
          this.asked.push('resume')
          return (await this.filler.resume?.(diffIds)) ?? ['/poisoned']
        },
        forget: async (diffIds) => {
          this.asked.push('forget')
          await this.filler.forget?.(diffIds)
        },
      },
    }
    const limits = DEFAULT_LAYER_LIMITS
    const retained = new RetainedBlobs(paths, { mode: 'none', maxAgeMs: 0, maxBytes: 0 })
    const ingest = () => this.#ingest
    this.layers = new LayerStore({
      paths,
      metadata,
      workers,
      writers: workers,
      ingest,
      limits,
      bootId,
      retained,
      lazy,
    })
  }

  static async open(root: string, bootId = THIS_BOOT): Promise<Store> {
    const paths = openStoreRoot(root)
    const metadata = await MetadataStore.open(paths.database, { lockFile: join(paths.locks, 'metadata') })
    return new Store(paths, metadata, new WorkerPool(1), bootId)
  }

  path(name: string): string {
    return join(this.paths.layers, diffId, name)
  }

  get #wanted() {
    const open = async function* open(this: Store): AsyncGenerator<Buffer> {
      this.asked.push('fetch')
      yield Buffer.from(tar)
    }.bind(this)
    return { diffId, blob, open, isResumable: false, isRemote: false }
  }

  /** Releases the lease at once, and returns what was asked of the filler and the source. */
  async leaseLazily({
    isMade = false,
    onIndex,
    ...options
  }: {
    /** The digest of the index is not known before. */
    readonly isMade?: boolean
    readonly onEager?: (why: string) => void
    readonly trusts?: () => boolean
    /** What the source of the index does first. */
    readonly onIndex?: () => void
  } = {}): Promise<string[]> {
    const bytes = await this.#makeIndex()
    const index = {
      bytes: async () => {
        onIndex?.()
        return bytes
      },
      indexDigest: isMade ? undefined : digestOf(bytes),
      trustedBy: 'own',
      reference: 'registry.test/image:1',
      blobMediaType: 'application/vnd.oci.image.layer.v1.tar',
    }
    const onProgress = (progress: LayerProgress) => this.progress.push(progress)
    const lease = await this.layers.leaseLazily(this.#wanted, {
      trusts: () => true,
      ...options,
      index,
      onProgress,
    })
    lease.release()
    return this.asked.splice(0)
  }

  /** Makes the lazy index of a blob that is a tar itself. */
  async #makeIndex(): Promise<Buffer> {
    const target = join(this.#ingest.path, `index-${digestOf(this.indexed).slice(-8)}`)
    if (existsSync(target)) return readFileSync(target)
    const { indexed } = this
    const task = {
      kind: 'lazy-index',
      blob: { digest: digestOf(indexed), sizeBytes: indexed.length },
      diffId: parseDiffId(digestOf(indexed)),
      target,
      limits: DEFAULT_LAYER_LIMITS,
    } as const
    const source = async function* source() {
      yield Buffer.from(indexed)
    }
    assert.ok(await this.#workers.run(task, { source }))
    return readFileSync(target)
  }

  async lease(): Promise<string[]> {
    const onProgress = (progress: LayerProgress) => this.progress.push(progress)
    const lease = await this.layers.lease(this.#wanted, { onProgress })
    lease.release()
    return this.asked.splice(0)
  }

  /** As `lease`, for the blob of a client that says nothing else of the layer. */
  async add(): Promise<string[]> {
    const open = async function* open(): AsyncGenerator<Buffer> {
      yield Buffer.from(tar)
    }
    const { lease } = await this.layers.add({ blob, open })
    lease.release()
    return this.asked.splice(0)
  }

  /** Records a root filesystem that shows the layer. */
  async use(): Promise<void> {
    const record = {
      uuid: 'u',
      containerId: parseContainerId('c'),
      state: 'ready',
      backend: 'erofs',
      reference: 'r',
      imageDigest: diffId,
      chainId: undefined,
      layers: [diffId],
      rootfsPath: '/r',
      scratchPath: '/s',
      isReadOnly: false,
      idMapping: undefined,
      sizeBytes: undefined,
      volumeTarget: undefined,
      volumeRoot: undefined,
      volumeSubPath: undefined,
      volumeMount: undefined,
      bootId: 'b',
      createdAtMs: 1,
    } as const
    await this.metadata.containers.putRootfs(record, true)
  }

  isComplete(): boolean {
    return this.layers.find(diffId) !== undefined && readFileSync(this.path('layer.tar')).equals(tar)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.layers.settle()
    await this.#workers[Symbol.asyncDispose]()
    assert.deepEqual(
      readdirSync(this.#ingest.path).filter((name) => !name.startsWith('index-')),
      [],
    )
    await this.#ingest[Symbol.asyncDispose]()
    this.metadata[Symbol.dispose]()
  }
}

async function withStore(act: (store: Store, root: string) => Promise<void>): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'loam-partial-'))
  try {
    const root = join(folder, 'store')
    await using store = await Store.open(root)
    await act(store, root)
  } finally {
    rmSync(folder, { recursive: true })
  }
}

describe('partial layers', () => {
  test('a layer with a lazy index is there when its reads are served, with its tree and a sparse tar of full size', async () => {
    await withStore(async (store) => {
      store.filler.serve = async () => {
        assert.equal(store.metadata.layers.partials()[0]?.diffId, diffId)
        assert.equal(store.layers.partial.find(diffId)?.tarBytes, tar.length)
      }
      assert.deepEqual(await store.leaseLazily(), ['serve'])
      assert.deepEqual(store.progress, [{ state: 'lazy', totalBytes: tar.length }])
      assert.equal(store.layers.find(diffId), undefined, 'a caller that reads its data does not find it')
      assert.equal(store.layers.getLazily(diffId).data, 'partial')
      const { size, blocks } = statSync(store.path('layer.tar'))
      assert.deepEqual([size, blocks], [tar.length, 0])
      assert.deepEqual([...readdirSync(join(store.paths.layers, diffId))].toSorted(), [
        'layer.erofs',
        'layer.lazy-index',
        'layer.spans',
        'layer.tar',
      ])
      assert.deepEqual(await store.leaseLazily(), [], 'it is there for the next one')
    })
  })

  test('an index is allowed again by a call that is repeated after its layers could not be served', async () => {
    await withStore(async (store) => {
      await store.leaseLazily()
      await store.use()
      const indexDigest = store.layers.partial.sourceOf(diffId)?.indexDigest
      assert.ok(indexDigest !== undefined)
      await store.metadata.layers.denyIndex(indexDigest, 'wrong')
      store.filler.resume = async () => {
        throw new LoamError('LAZY_UNAVAILABLE', 'it did not start')
      }
      await assert.rejects(store.layers.partial.allowIndex(indexDigest), (error) =>
        isLoamError(error, 'LAZY_UNAVAILABLE'),
      )
      store.filler = {}
      store.asked.length = 0
      assert.equal(await store.layers.partial.allowIndex(indexDigest), false)
      assert.deepEqual(store.asked, ['resume'])
    })
  })

  test('a caller that needs all data waits for it, and fetches nothing', async () => {
    await withStore(async (store) => {
      await store.leaseLazily()
      store.progress.length = 0
      assert.deepEqual(await store.lease(), ['complete'])
      assert.deepEqual(
        store.progress.map(({ state }) => state),
        ['fetching', 'done'],
      )
      assert.ok(store.isComplete())
      assert.deepEqual(await store.leaseLazily(), [])
    })
  })

  test('a caller that does not trust the index of a layer gets it when its data has proved it, also after a reboot', async () => {
    await withStore(async (store) => {
      await store.leaseLazily()
      assert.deepEqual(await store.leaseLazily({ trusts: () => false }), ['complete'])
      assert.ok(store.isComplete())
    })
    await withStore(async (store, root) => {
      await store.leaseLazily()
      await using next = await Store.open(root, NEXT_BOOT)
      assert.deepEqual(await next.leaseLazily({ trusts: () => false }), ['complete'])
      assert.ok(next.isComplete())
    })
  })

  test('a caller that does not trust the index by which another one creates the layer meanwhile waits for its data', async () => {
    await withStore(async (store) => {
      const other = Promise.withResolvers<string[]>()
      store.filler.serve = async () => {
        store.leaseLazily({ trusts: () => false }).then(other.resolve, other.reject)
        await new Promise(setImmediate)
      }
      await store.leaseLazily()
      store.filler = {}
      assert.ok(!(await other.promise).includes('fetch'))
      assert.ok(store.isComplete())
    })
  })

  test('a caller that needs all data while the layer is being created waits for the filler', async () => {
    await withStore(async (store) => {
      const eager = Promise.withResolvers<string[]>()
      store.filler.serve = async () => {
        // It waits for the lock that the creator holds.
        store.lease().then(eager.resolve, eager.reject)
        await new Promise(setImmediate)
      }
      await store.leaseLazily()
      store.filler = {}
      assert.ok(!(await eager.promise).includes('fetch'))
      assert.ok(store.isComplete())
    })
  })

  test('a caller whose data does not come fetches the layer from its own source', async () => {
    await withStore(async (store) => {
      await store.leaseLazily()
      store.filler.complete = async () => {
        throw new LoamError('LAZY_UNAVAILABLE', 'the registry of the handler is gone')
      }
      assert.deepEqual(await store.lease(), ['complete', 'forget', 'fetch'])
      assert.ok(store.isComplete())
      for (const name of ['layer.lazy-index', 'layer.spans'])
        assert.ok(!existsSync(store.path(name)), `${name} was never compared with the tar`)
      assert.equal(store.metadata.layers.partialSource(diffId), undefined)
    })
  })

  test('a complete layer whose tar was lost keeps the index that it was pulled by, with its row, or neither', async () => {
    for (const isDamaged of [false, true])
      await withStore(async (store) => {
        await store.leaseLazily()
        await store.lease()
        const index = readFileSync(store.path('layer.lazy-index'))
        if (isDamaged) writeFileSync(store.path('layer.lazy-index'), 'damaged')
        writeFileSync(store.path('layer.tar'), 'short')
        assert.deepEqual(await store.lease(), ['fetch'])
        assert.ok(store.isComplete())
        const source = store.metadata.layers.partialSource(diffId)
        assert.equal(source?.indexDigest, isDamaged ? undefined : digestOf(index))
        assert.equal(existsSync(store.path('layer.lazy-index')), !isDamaged)
        assert.equal(await store.layers.eviction.evict(diffId), !isDamaged)
      })
  })

  test('a dry run of an eviction agrees with the eviction, and leaves the layer as it is', async () => {
    const spoils: ((store: Store) => Promise<void>)[] = [
      async () => undefined,
      async (store) => {
        writeFileSync(store.path('layer.lazy-index'), 'damaged')
      },
      async (store) => {
        rmSync(store.path('layer.lazy-index'))
      },
      async (store) => {
        await store.use()
      },
    ]
    for (const spoil of spoils)
      await withStore(async (store) => {
        await store.leaseLazily()
        await store.lease()
        await spoil(store)
        const { eviction } = store.layers
        const isWorth = await eviction.evict(diffId, { dryRun: true })
        assert.ok(store.isComplete())
        assert.equal(isWorth, spoil === spoils[0])
        assert.equal(await eviction.evict(diffId), isWorth)
        assert.equal(store.layers.find(diffId) === undefined, isWorth)
      })
  })

  test('a blob whose layer is partial and in use is taken: its data is waited for', async () => {
    await withStore(async (store) => {
      await store.leaseLazily()
      await store.use()
      assert.deepEqual(await store.add(), ['complete'])
      assert.ok(store.isComplete())
    })
  })

  test('a blob replaces a partial layer whose data does not come, unless that is in use', async () => {
    await withStore(async (store) => {
      await store.leaseLazily()
      store.filler.complete = async () => {
        throw new LoamError('LAZY_UNAVAILABLE', 'the registry of the handler is gone')
      }
      assert.deepEqual(await store.add(), ['complete', 'forget'])
      assert.ok(store.isComplete())
    })
    await withStore(async (store) => {
      await store.leaseLazily()
      await store.use()
      store.filler.complete = async () => {
        throw new LoamError('LAZY_UNAVAILABLE', 'the registry of the handler is gone')
      }
      await assert.rejects(store.add(), { message: 'the registry of the handler is gone' })
    })
  })

  test('a store that waits for its removals keeps the filler running', async () => {
    await withStore(async (store) => {
      await store.layers.settle()
      assert.deepEqual(store.asked, [])
      store.layers.partial.close()
      assert.deepEqual(store.asked, ['release'])
    })
  })

  test('a layer that cannot be served is fetched, and nothing of the partial one is left', async () => {
    await withStore(async (store) => {
      store.filler.serve = async () => {
        assert.ok(existsSync(store.path('layer.lazy-index')))
        throw new LoamError('UNSUPPORTED_SYSTEM', 'this kernel cannot')
      }
      const reasons: string[] = []
      assert.deepEqual(await store.leaseLazily({ onEager: (why) => reasons.push(why) }), [
        'serve',
        'forget',
        'fetch',
      ])
      assert.deepEqual(reasons, ['this kernel cannot'])
      assert.ok(store.isComplete())
      assert.ok(!existsSync(store.path('layer.lazy-index')))
      assert.equal(store.metadata.layers.partialSource(diffId), undefined)
    })
  })

  test('an index of another layer is not used', async () => {
    await withStore(async (store) => {
      store.indexed = otherTar
      assert.deepEqual(await store.leaseLazily(), ['fetch'])
      assert.ok(store.isComplete())
    })
  })

  test('an index that was made from the tables of a blob is known by its own digest: it is sound for a check and after a reboot, and is not used once denied', async () => {
    await withStore(async (store, root) => {
      await store.leaseLazily({ isMade: true })
      const [source] = store.metadata.layers.partials()
      assert.ok(source !== undefined)
      assert.equal(source.indexDigest, digestOf(readFileSync(store.path('layer.lazy-index'))))
      assert.equal((await store.layers.checkPartial(source)).damage, undefined)
      await using next = await Store.open(root, NEXT_BOOT)
      assert.deepEqual(await next.leaseLazily({ isMade: true }), [])
      await next.layers.prune()
      next.asked.length = 0
      await next.metadata.layers.denyIndex(source.indexDigest, 'its layer has another diffID')
      const reasons: string[] = []
      const asked = await next.leaseLazily({ isMade: true, onEager: (why) => reasons.push(why) })
      assert.deepEqual(asked, ['fetch'])
      assert.match(reasons.join(), /it was denied: its layer has another diffID/)
    })
  })

  test('after a reboot the tree is made from the index again, and the tar and its map are kept', async () => {
    await withStore(async (store, root) => {
      await store.leaseLazily()
      const { ino } = statSync(store.path('layer.tar'))
      writeFileSync(store.path('layer.erofs'), 'lost by a power cut')
      await using next = await Store.open(root, NEXT_BOOT)
      assert.equal(next.layers.partial.find(diffId), undefined)
      assert.deepEqual(await next.leaseLazily(), [])
      assert.equal(next.layers.partial.find(diffId)?.tarBytes, tar.length)
      assert.notEqual(readFileSync(next.path('layer.erofs'), 'latin1'), 'lost by a power cut')
      assert.equal(statSync(next.path('layer.tar')).ino, ino)
    })
  })

  test('after a reboot a tar whose end was lost is made anew, and none of its spans is claimed', async () => {
    await withStore(async (store, root) => {
      await store.leaseLazily()
      writeFileSync(store.path('layer.tar'), 'short')
      const map = readFileSync(store.path('layer.spans'))
      map[map.length - 1] = 1
      writeFileSync(store.path('layer.spans'), map)
      await using next = await Store.open(root, NEXT_BOOT)
      assert.deepEqual(await next.leaseLazily(), [])
      assert.deepEqual(
        [statSync(next.path('layer.tar')).size, statSync(next.path('layer.tar')).blocks],
        [tar.length, 0],
      )
      assert.equal(readFileSync(next.path('layer.spans')).at(-1), 0)
    })
  })

  test('in the same boot an index that is not that of its layer any more is fetched again, or the layer is', async () => {
    const spoils: ((path: string) => void)[] = [
      (path) => {
        const index = readFileSync(path)
        index.writeUInt8(index.readUInt8(index.length - 1) ^ 1, index.length - 1)
        writeFileSync(path, index)
      },
      (path) => {
        rmSync(path)
        mkdirSync(path)
      },
      rmSync,
    ]
    for (const spoil of spoils)
      for (const isThere of [true, false])
        await withStore(async (store) => {
          await store.leaseLazily()
          await store.use()
          const path = store.path('layer.lazy-index')
          const [index, { ino }] = [readFileSync(path), statSync(store.path('layer.tar'))]
          await sleep(20)
          spoil(path)
          assert.equal(store.layers.partial.find(diffId), undefined)
          const onIndex = () => {
            if (!isThere) throw new LoamError('REGISTRY_UNREACHABLE', 'it is gone')
          }
          if (isThere) {
            assert.deepEqual(await store.leaseLazily({ onIndex }), [])
            assert.ok(readFileSync(path).equals(index))
            assert.equal(statSync(store.path('layer.tar')).ino, ino, 'it may be mounted')
            assert.deepEqual(await store.leaseLazily({ onIndex }), [])
          } else {
            await assert.rejects(store.leaseLazily({ onIndex }), { code: 'LAYER_DAMAGED' })
            await store.metadata.containers.removeRootfs('u')
            assert.deepEqual(await store.leaseLazily({ onIndex }), ['forget', 'fetch'])
            assert.ok(store.isComplete())
          }
        })
  })

  test('nothing is made again of an index whose file was changed and is right still', async () => {
    await withStore(async (store) => {
      await store.leaseLazily()
      await sleep(20)
      const path = store.path('layer.lazy-index')
      const meta = statSync(store.path('layer.erofs'))
      chmodSync(path, 0o640)
      assert.deepEqual(await store.leaseLazily(), [])
      assert.equal(statSync(store.path('layer.erofs')).ino, meta.ino)
      assert.equal(store.layers.partial.find(diffId)?.data, 'partial')
    })
  })

  test('a tar that changes its size while it may be mounted is fetched, and not made anew', async () => {
    await withStore(async (store) => {
      await store.leaseLazily()
      writeFileSync(store.path('layer.tar'), 'short')
      assert.deepEqual(await store.leaseLazily(), ['forget', 'fetch'])
      assert.ok(store.isComplete())
    })
  })

  test('a partial layer that is in use is not replaced when its data does not come', async () => {
    await withStore(async (store) => {
      await store.leaseLazily()
      await store.use()
      store.filler.complete = async () => {
        throw new LoamError('LAZY_UNAVAILABLE', 'the registry of the handler is gone')
      }
      const before = statSync(store.path('layer.tar')).ino
      await assert.rejects(store.lease(), { message: 'the registry of the handler is gone' })
      const source = store.metadata.layers.partialSource(diffId)
      assert.ok(source !== undefined)
      await store.metadata.layers.denyIndex(source.indexDigest, 'its layer has another diffID')
      await assert.rejects(store.leaseLazily(), (error) => isLoamError(error, 'LAYER_DAMAGED'))
      assert.equal(statSync(store.path('layer.tar')).ino, before)
      assert.ok(!store.asked.includes('fetch'))
    })
  })

  test('a partial layer whose index was lost or denied is fetched', async () => {
    for (const spoil of [
      async (store: Store) => {
        writeFileSync(store.path('layer.lazy-index'), 'damaged')
      },
      async (store: Store) => {
        const source = store.metadata.layers.partialSource(diffId)
        assert.ok(source !== undefined)
        await store.metadata.layers.denyIndex(source.indexDigest, 'its layer has another diffID')
      },
    ]) {
      await withStore(async (store, root) => {
        await store.leaseLazily()
        await spoil(store)
        await using next = await Store.open(root, NEXT_BOOT)
        assert.deepEqual(await next.lease(), ['forget', 'fetch'], 'nothing is filled by a damaged index')
        assert.ok(next.isComplete())
      })
    }
  })

  test('an unused partial layer is forgotten by its filler before it is removed, and stays if the filler cannot be reached', async () => {
    await withStore(async (store) => {
      await store.leaseLazily()
      store.filler.forget = async () => {
        assert.equal(store.metadata.layers.partials().length, 1)
        throw new LoamError('LAZY_UNAVAILABLE', 'it has ended')
      }
      assert.deepEqual(await store.layers.prune(), [])
      assert.equal(store.metadata.layers.partials().length, 1)
      store.filler = {}
      assert.deepEqual(
        (await store.layers.prune()).map((pruned) => pruned.diffId),
        [diffId],
      )
      assert.deepEqual(store.asked, ['forget', 'forget'])
      assert.deepEqual(store.metadata.layers.partials(), [])
      assert.ok(!existsSync(join(store.paths.layers, diffId)))
    })
  })

  test('a check of a partial layer hashes the spans that are here, and damaged ones are fetched again', async () => {
    await withStore(async (store) => {
      await store.leaseLazily()
      const [source] = store.metadata.layers.partials()
      assert.ok(source !== undefined)
      const check = async () => store.layers.checkPartial(source)
      assert.deepEqual(await check(), { damage: undefined, hashedBytes: 0 })
      const setSpan = (state: number) => {
        const map = readFileSync(store.path('layer.spans'))
        map[map.length - 1] = state
        writeFileSync(store.path('layer.spans'), map)
      }
      setSpan(1)
      writeFileSync(store.path('layer.tar'), tar)
      assert.deepEqual(await check(), { damage: undefined, hashedBytes: tar.length })

      writeFileSync(store.path('layer.tar'), Buffer.alloc(tar.length))
      const { damage } = await check()
      assert.equal(damage?.problem, '1 of its 1 spans are damaged')
      assert.ok(damage.repair !== 'refetch')
      store.asked.length = 0
      await damage.repair()
      assert.deepEqual(store.asked, ['forget'])
      assert.equal(readFileSync(store.path('layer.spans')).at(-1), 0)

      writeFileSync(store.path('layer.lazy-index'), 'damaged')
      assert.deepEqual((await check()).damage, { problem: 'its lazy index is damaged', repair: 'refetch' })
    })
  })
})
