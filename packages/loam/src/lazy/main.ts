/*
 * The process `loam lazyd`: one for each store, started by who needs it. It ends when it has nothing to serve. Only its own modules and those that
 * open sources are loaded.
 */
import { once } from 'node:events'
import { existsSync, readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { BlobStore, IngestArea, openStoreRoot, RetainedBlobs, type StorePaths } from '../content/index.ts'
import { layerLimits } from '../config/index.ts'
import { toLoamError } from '../errors/index.ts'
import { SourceOpener } from '../images/index.ts'
import { LayerStore, WorkerPool } from '../layers/index.ts'
import {
  canConnect,
  endWithoutHandlers,
  FileLock,
  limitDescriptors,
  protectFromOom,
  readBootId,
  searchPath,
  unlinkIfThere,
} from '../linux/index.ts'
import { type MetadataStore, openMetadata } from '../metadata/index.ts'
import { BlobSources } from './blob-sources.ts'
import { ControlServer } from './control-server.ts'
import { DescriptorKeeper } from './descriptor-keeper.ts'
import { LazyHandler } from './handler.ts'
import { type LazyPaths, lazyPaths } from './lazy-paths.ts'
import { unmountPoisoned } from './poisoned-mounts.ts'
import type { DeniedLayer, LazyAnswer, LazyRequest } from './protocol.ts'
import { MAX_DESCRIPTORS } from './shared-reads.ts'
import { type HandlerConfiguration, INLINE_CREDENTIALS } from './start-handler.ts'
import { report } from './report.ts'

/** How long it waits for requests when it has nothing to serve. */
const IDLE_MS = 2_000
/** How long a handler that ends may hold its lock. */
const LOCK_LIMIT_MS = 10_000

type SendAnswer = (answer: LazyAnswer) => void

/** Runs the handler of the store whose state directory is given; ends the process. Never throws. */
export async function main(args: readonly string[]): Promise<void> {
  endWithoutHandlers()
  const [, option, state] = args
  const paths = lazyPaths(option === '--state' && state !== undefined ? state : '')
  try {
    await run(paths)
    process.exit(0)
  } catch (error) {
    report(toLoamError(error, 'serve partial layers').message)
    // It is started again while reads may wait for it: as long as the descriptors are kept.
    process.exit(existsSync(paths.holder) ? 1 : 0)
  }
}

async function run(paths: LazyPaths): Promise<void> {
  process.umask(0o077)
  const descriptorLimit = limitDescriptors(MAX_DESCRIPTORS)
  protectFromOom(process.pid)
  using lock = await lockUnlessServed(paths)
  if (lock === undefined) return
  const { values, userId, cwd } = readConfiguration(paths.configuration)
  // A store that was removed has nothing to serve, and is not created again.
  if (!existsSync(values.root)) return
  const store = openStoreRoot(values.root, values.state)
  using metadata = await openMetadata(store, undefined)
  const sources = new BlobSources(createSources({ values, userId, cwd, store, metadata }), metadata)
  const keeper = new DescriptorKeeper(paths, searchPath(process.env))
  const idle = new IdleWait()
  const listeners = new Set<SendAnswer>()
  const onDenied = (denied: DeniedLayer) => {
    for (const send of listeners) send({ kind: 'denied', denied })
  }
  const handler = await LazyHandler.start({
    paths: store,
    lazyPaths: paths,
    metadata,
    keeper,
    limits: layerLimits(values),
    bootId: readBootId(),
    stallTimeoutMs: values.lazy_stall_timeout,
    descriptorLimit,
    withSource: async (source, tries, act) => sources.with(source, tries, act),
    unmountPoisoned: (diffIds) => unmountPoisoned(store, diffIds),
    onDenied,
    onIdle: () => {
      idle.look()
    },
  })
  const server = await ControlServer.listen(
    paths.socket,
    async (request, options) => answer(handler, request, { ...options, listeners }),
    () => {
      idle.look()
    },
  )
  await idle.wait(() => handler.isIdle && server.isIdle)
  server.close()
  unlinkIfThere(paths.socket)
  handler.end()
}

/** Returns the lock of the handler; undefined if another one serves. */
async function lockUnlessServed(paths: LazyPaths): Promise<FileLock | undefined> {
  const end = performance.now() + LOCK_LIMIT_MS
  for (;;) {
    const lock = FileLock.tryAcquire(paths.lock)
    if (lock !== undefined) return lock
    if ((await canConnect(paths.socket)) || performance.now() > end) return undefined
    await sleep(50)
  }
}

async function answer(
  handler: LazyHandler,
  request: LazyRequest,
  {
    signal,
    send,
    listeners,
  }: { readonly signal: AbortSignal; readonly send: SendAnswer; readonly listeners: Set<SendAnswer> },
): Promise<LazyAnswer> {
  switch (request.op) {
    case 'serve':
      await handler.serve(request.diffIds)
      break
    case 'complete': {
      const onProgress = (presentBytes: number, totalBytes: number) => {
        send({ kind: 'progress', presentBytes, totalBytes })
      }
      await Promise.all(request.diffIds.map(async (diffId) => handler.complete(diffId, onProgress, signal)))
      break
    }
    case 'forget':
      await handler.forget(request.diffIds)
      break
    case 'status':
      return { kind: 'status', status: handler.status() }
    case 'hold':
      listeners.add(send)
      if (!signal.aborted) await once(signal, 'abort')
      listeners.delete(send)
      break
  }
  return { kind: 'done' }
}

/** Returns the settings of the process that started the handler, or the one before it. @throws CONFIG_INVALID, system errors */
function readConfiguration(path: string): HandlerConfiguration {
  // Written by Loam itself, in a directory of its user.
  const { values, userId, cwd } = JSON.parse(readFileSync(path, 'utf8')) as HandlerConfiguration
  const inline = process.env[INLINE_CREDENTIALS]
  return { values: inline === undefined ? values : { ...values, docker_config: inline }, userId, cwd }
}

function createSources({
  values,
  userId,
  cwd,
  store: paths,
  metadata,
}: HandlerConfiguration & { readonly store: StorePaths; readonly metadata: MetadataStore }): SourceOpener {
  const { limit_manifest_bytes: manifestBytes, limit_config_bytes: configBytes } = values
  const blobs = new BlobStore(paths, { manifestBytes, configBytes })
  // Threads that start when a source needs them: only those of Appc images and folders do.
  const workers = new WorkerPool(1)
  const layers = new LayerStore({
    paths,
    metadata,
    workers,
    writers: workers,
    ingest: () => new IngestArea(paths),
    limits: layerLimits(values),
    bootId: readBootId(),
    retained: new RetainedBlobs(paths, { mode: 'none', maxAgeMs: 0, maxBytes: 0 }),
  })
  return new SourceOpener({
    values,
    userId,
    env: process.env,
    cwd,
    paths,
    metadata,
    blobs,
    layers,
    closing: new Set(),
  })
}

/** Waits until there is nothing to do for a while. */
class IdleWait {
  #isIdle: () => boolean = () => false
  #timer: NodeJS.Timeout | undefined
  readonly #done = Promise.withResolvers<void>()

  /** Resolves when `isIdle` has been true for some time; `look` says when it may have changed. */
  async wait(isIdle: () => boolean): Promise<void> {
    this.#isIdle = isIdle
    this.look()
    await this.#done.promise
  }

  look(): void {
    // Requests that ask for its status do not keep it.
    if (!this.#isIdle() || this.#timer !== undefined) return
    this.#timer = setTimeout(() => {
      this.#timer = undefined
      if (this.#isIdle()) this.#done.resolve()
      else this.look()
    }, IDLE_MS)
  }
}
