import { createHash, randomUUID } from 'node:crypto'
import { PassThrough } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { createGzip } from 'node:zlib'
import { create } from '@bufbuild/protobuf'
import { Metadata, type UntypedServiceImplementation } from '@grpc/grpc-js'
import {
  type ErrorCode,
  isLoamError,
  type Loam,
  LoamError,
  type SnapshotMount,
  type Snapshotter,
} from 'loamfs'
import {
  applyLayer,
  createDirectories,
  createPipe,
  findChange,
  isLayerType,
  leftByError,
  MEDIA_TYPES,
  parseDigest,
  tellLeft,
} from 'loamfs/internal'
import { type Descriptor, DescriptorSchema } from '../gen/descriptor_pb.js'
import {
  type ApplyRequest,
  type ApplyResponse,
  ApplyResponseSchema,
  Diff,
  type DiffRequest,
  DiffResponseSchema,
} from '../gen/diff_pb.js'
import type { Mount } from '../gen/mount_pb.js'
import { logLeft } from './left-layers.ts'
import type { CallOptions, ContainerdClient } from './containerd-client.ts'
import { type CallContext, type CallObserver, unary } from './service.ts'

/** The namespace and the lease of a request, which calls of the content store need, too (containerd core/leases, pkg/namespaces). */
const LEASE = 'containerd-lease'
const PASSED_ON = ['containerd-namespace', LEASE] as const
/** Time for a client to write the manifest of a new layer. */
const LEASE_MS = 3_600_000

/** Media types of layers that are written, and whether they are compressed. */
const WRITTEN: ReadonlyMap<string, boolean> = new Map(
  Object.entries({
    [MEDIA_TYPES.ociLayer]: false,
    [MEDIA_TYPES.ociLayerGzip]: true,
    [MEDIA_TYPES.dockerLayer]: false,
    [MEDIA_TYPES.dockerLayerGzip]: true,
  }),
)
/** The label by which containerd knows the layer of a compressed blob. */
const UNCOMPRESSED = 'containerd.io/uncompressed'

export interface DiffServiceOptions {
  readonly loam: Loam
  readonly snapshotter: Snapshotter
  readonly containerd: ContainerdClient
}

/** Errors of layers that Loam refuses or cannot show: another differ may unpack them, as when Loam fetches layers. */
const LEFT: readonly ErrorCode[] = ['LAYER_LIMIT', 'TAR_UNSAFE', 'BACKEND_UNSUPPORTED', 'UNSUPPORTED_SYSTEM']

/**
 * Answers containerd's diff API for Loam's own snapshots: layers are taken from containerd's content store without unpacking them, and layers of changes
 * are written to it. What Loam cannot take (a parent that is unpacked, a layer that EROFS cannot show) the other differs of containerd unpack.
 */
export function diffService(options: DiffServiceOptions, calls: CallObserver): UntypedServiceImplementation {
  const { snapshotter, containerd } = options
  const delegated = new Set<string>()
  const { method } = Diff

  const apply = async (request: ApplyRequest, call: CallOptions): Promise<ApplyResponse | undefined> => {
    const { diff, mounts, payloads } = request
    if (diff === undefined) throw new LoamError('USAGE', 'apply: the request names no blob')
    const { digest, mediaType } = diff
    // Encrypted layers and other processors are containerd's own.
    if (!isLayerType(mediaType) || Object.keys(payloads).length > 0) return undefined
    const sizeBytes = diff.size > 0n ? Number(diff.size) : await containerd.sizeOf(digest, call)
    const open = (signal: AbortSignal) => containerd.read(digest, { ...call, signal })
    const layer = { blob: { digest: parseDigest(digest), sizeBytes }, open }
    const applied = await applyLayer(snapshotter, {
      mounts: mounts.map(fromMount),
      layer,
      signal: call.signal,
    })
    if (applied === undefined) return undefined
    const { diffId, tarBytes } = applied
    const descriptor = { mediaType: MEDIA_TYPES.ociLayer, digest: diffId, size: BigInt(tarBytes) }
    return create(ApplyResponseSchema, { applied: create(DescriptorSchema, descriptor) })
  }

  /** As `apply`; what Loam refuses is left to others, and logged. */
  const tryApply = async (request: ApplyRequest, call: CallOptions): Promise<ApplyResponse | undefined> => {
    try {
      return await apply(request, call)
    } catch (error) {
      if (!isLoamError(error, ...LEFT)) throw error
      const left = { image: undefined, ref: request.diff?.digest ?? '', ...leftByError(error) }
      await tellLeft(calls.activity, left)
      logLeft(calls.log)(left)
      return undefined
    }
  }

  return {
    apply: unary(method.apply, calls, async (request, { metadata, signal }) => {
      const target = JSON.stringify(request.mounts.map((mount) => [mount.source, mount.options]))
      // containerd asks its differs in turn, this one among them: the second time it has to go on to the next.
      if (delegated.has(target)) throw notOurs('apply')
      const call = { metadata: passOn(metadata), signal }
      const applied = await tryApply(request, call)
      if (applied !== undefined) return applied
      delegated.add(target)
      try {
        return await containerd.apply(request, call)
      } finally {
        delegated.delete(target)
      }
    }),
    diff: unary(method.diff, calls, async (request, context) =>
      create(DiffResponseSchema, { diff: await writeDiff(options, request, context) }),
    ),
  }
}

async function writeDiff(
  { loam, snapshotter, containerd }: DiffServiceOptions,
  { left, right, mediaType: asked, ref, labels, sourceDateEpoch }: DiffRequest,
  { metadata, signal }: CallContext,
): Promise<Descriptor> {
  const mediaType = asked === '' ? MEDIA_TYPES.ociLayerGzip : asked
  const isCompressed = WRITTEN.get(mediaType)
  const mounts = { left: left.map(fromMount), right: right.map(fromMount) }
  const key = findChange(snapshotter, mounts)
  if (key === undefined || isCompressed === undefined || sourceDateEpoch !== undefined) throw notOurs('diff')
  const { state } = loam.store.configuration.values
  createDirectories(state)
  const { output, writer, closeWriter } = createPipe(state)
  const packing = loam.snapshots.diff(key, `/proc/self/fd/${writer}`, { signal }).finally(closeWriter)
  // Its error is that of the other end of the pipe, too.
  packing.catch(() => undefined)
  const hash = createHash('sha256')
  const tar = async function* (source: AsyncIterable<Buffer>) {
    for await (const chunk of source) {
      hash.update(chunk)
      yield chunk
    }
    await packing
  }
  const blob = new PassThrough()
  const streaming = isCompressed ? pipeline(output, tar, createGzip(), blob) : pipeline(output, tar, blob)
  streaming.catch(() => undefined)
  try {
    const name = ref === '' ? `loam-diff-${randomUUID()}` : ref
    const call = await withLease(containerd, { metadata: passOn(metadata), signal })
    const written = await containerd.write({ ref: name, labels: labelsOf, data: blob }, call)
    await streaming
    return create(DescriptorSchema, {
      mediaType,
      digest: written.digest,
      size: BigInt(written.sizeBytes),
    })
  } finally {
    output.destroy()
    blob.destroy()
    await packing.catch(() => undefined)
  }

  /** The digest of the layer is known once all of it is read. */
  function labelsOf(): Record<string, string> {
    return { ...labels, [UNCOMPRESSED]: `sha256:${hash.digest('hex')}` }
  }
}

/** containerd does not pass on the leases of its clients: without one its garbage collection would remove a blob before a manifest refers to it. */
async function withLease(containerd: ContainerdClient, call: CallOptions): Promise<CallOptions> {
  if (call.metadata.get(LEASE).length > 0) return call
  const id = `loam-diff-${randomUUID()}`
  await containerd.createLease(id, Date.now() + LEASE_MS, call)
  const metadata = call.metadata.clone()
  metadata.set(LEASE, id)
  return { ...call, metadata }
}

function passOn(metadata: Metadata): Metadata {
  const own = new Metadata()
  for (const name of PASSED_ON) for (const value of metadata.get(name)) own.add(name, value)
  return own
}

const NOT_BINDS = ['overlay', 'format/overlay', 'erofs'] as const

function fromMount({ type, source, options }: Mount): SnapshotMount {
  return { type: NOT_BINDS.find((known) => known === type) ?? 'bind', source, options }
}

/** Its kind is UNIMPLEMENTED. */
function notOurs(attempted: string): LoamError {
  return new LoamError('MEDIA_TYPE_UNSUPPORTED', `${attempted}: another differ has to do it`)
}
