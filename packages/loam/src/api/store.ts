import * as v from 'valibot'
import type { HostReport } from '../app/index.ts'
import type { FsckReport, StoreUsage } from '../maintenance/index.ts'
import type { PartialLayerInfo } from '../lazy/index.ts'
import type { NodeReport } from '../nodes/index.ts'
import { fetchFields } from './fetch.ts'
import { operation } from './operation.ts'
import { count, diffId, digest, list, matching, orUndefined } from './schema.ts'

const UsageSchema = matching<StoreUsage>()(
  v.object({
    images: list(
      v.object({
        digest,
        names: list(v.string()),
        bytes: count,
        ownBytes: count,
        sharedBytes: count,
        containers: list(v.string()),
      }),
    ),
    layers: list(
      v.object({
        diffId,
        bytes: count,
        partialOfBytes: orUndefined(count),
        folderBytes: count,
        images: list(v.string()),
      }),
    ),
    containers: list(v.object({ id: v.string(), backend: v.string(), reference: v.string(), bytes: count })),
    unusedBytes: count,
    retainedBytes: count,
    totalBytes: count,
  }),
)

const PartialLayersSchema = matching<readonly PartialLayerInfo[]>()(
  list(
    v.object({
      diffId,
      presentBytes: count,
      totalBytes: count,
      waitingReads: count,
      failure: orUndefined(v.string()),
      images: list(digest),
      containers: list(v.string()),
    }),
  ),
)

const FsckReportSchema = matching<FsckReport>()(
  v.object({
    checked: v.object({
      layers: count,
      partialLayers: count,
      indexes: count,
      images: count,
      mergedImages: count,
      rootfses: count,
      tarBytes: count,
    }),
    problems: list(
      v.object({
        what: v.string(),
        problem: v.string(),
        repaired: orUndefined(v.string()),
        advice: orUndefined(v.string()),
      }),
    ),
    deniedIndexes: list(v.object({ indexDigest: digest, reason: v.string(), deniedAtMs: count })),
  }),
)

const ProbeSchema = v.variant('isSupported', [
  v.object({ isSupported: v.literal(true), note: v.exactOptional(v.string()) }),
  v.object({ isSupported: v.literal(false), reason: v.string() }),
])
const SizeLimitSchema = v.variant('isSupported', [
  v.object({ isSupported: v.literal(true), method: v.picklist(['project', 'subvolume', 'image']) }),
  v.object({ isSupported: v.literal(false), reason: v.string() }),
])
const HostReportSchema = matching<HostReport>()(
  v.object({
    kernel: v.string(),
    platform: v.object({ os: v.string(), architecture: v.string(), variant: v.optional(v.string()) }),
    node: v.string(),
    isRoot: v.boolean(),
    rootless: v.exactOptional(
      v.object({
        uid: v.number(),
        gid: v.number(),
        ids: v.picklist(['subordinate', 'single', 'none']),
        why: v.exactOptional(v.string()),
      }),
    ),
    root: v.string(),
    backends: list(v.object({ name: v.string(), probe: ProbeSchema, isDefault: v.boolean() })),
    sizeLimits: SizeLimitSchema,
    lazy: ProbeSchema,
    runtime: ProbeSchema,
    inflate: v.picklist(['isal', 'zlib']),
  }),
)

const NodeReportSchema = matching<NodeReport>()(
  v.object({
    config: v.string(),
    version: orUndefined(v.string()),
    findings: list(
      v.object({
        status: v.picklist(['right', 'missing', 'wrong', 'note']),
        what: v.string(),
        message: v.string(),
        write: v.exactOptional(v.string()),
        run: v.exactOptional(v.string()),
      }),
    ),
  }),
)

/** A daemon's report about itself. Times are in milliseconds since 1970. */
export const DaemonStatusSchema = v.object({
  version: v.string(),
  api: v.string(),
  root: v.string(),
  state: v.string(),
  pid: count,
  node: v.string(),
  startedAtMs: count,
  sockets: list(v.object({ name: v.string(), path: v.string() })),
  /** Requests of the API in progress, without this one. */
  requests: list(v.object({ id: orUndefined(v.string()), operation: v.string(), startedAtMs: count })),
})

/** A daemon's report about itself. */
export type DaemonStatus = v.InferOutput<typeof DaemonStatusSchema>

/** Operations on the store as a whole, and the daemon. */
export const STORE = {
  'daemon.version': operation({
    method: 'GET',
    path: '/v1/version',
    summary: 'Return the versions of the daemon and of its API, and the store that it serves.',
    request: v.strictObject({}),
    result: v.object({ version: v.string(), api: v.string(), root: v.string(), pid: count }),
  }),
  'daemon.status': operation({
    method: 'GET',
    path: '/v1/status',
    summary: 'Return since when the daemon runs, where it listens, and which requests are in progress.',
    request: v.strictObject({}),
    result: DaemonStatusSchema,
  }),
  'store.usage': operation({
    method: 'GET',
    path: '/v1/df',
    summary: 'Measure the disk usage of images, layers and containers.',
    request: v.strictObject({}),
    result: UsageSchema,
    isShared: () => true,
  }),
  'store.partialLayers': operation({
    method: 'GET',
    path: '/v1/partial-layers',
    summary: 'List the layers whose data is not all here, with how much is, and why the rest does not come.',
    request: v.strictObject({}),
    result: PartialLayersSchema,
    isShared: () => true,
  }),
  'store.allowIndex': operation({
    method: 'POST',
    path: '/v1/lazy-indexes/allow',
    summary: 'Use a denied lazy index again. Returns whether it was denied.',
    request: v.strictObject({ indexDigest: v.string() }),
    result: v.boolean(),
  }),
  'store.fsck': operation({
    method: 'POST',
    path: '/v1/fsck',
    summary: 'Verify everything in the store, and with repair refetch or rebuild what is damaged.',
    request: v.strictObject({ ...fetchFields, repair: v.optional(v.boolean()) }),
    result: FsckReportSchema,
    event: v.variant('kind', [
      v.object({
        kind: v.literal('check'),
        /** The object that is verified next. */
        what: v.string(),
      }),
      v.object({
        kind: v.literal('work'),
        /** A layer that is being verified. */
        what: v.string(),
        doneBytes: count,
        totalBytes: count,
        isDone: v.boolean(),
      }),
    ]),
    isShared: () => true,
  }),
  'store.doctor': operation({
    method: 'GET',
    path: '/v1/doctor',
    summary: 'Report which backends work on this machine, and why the others do not.',
    request: v.strictObject({}),
    result: HostReportSchema,
  }),
  'store.doctorClient': operation({
    method: 'GET',
    path: '/v1/doctor/client',
    summary:
      'Check the configuration of containerd or Docker on this machine against what the snapshotter needs.',
    request: v.strictObject({
      client: v.picklist(['containerd', 'docker']),
      config: v.optional(v.string()),
    }),
    result: NodeReportSchema,
  }),
  'store.config': operation({
    method: 'GET',
    path: '/v1/config',
    summary: 'List the settings in force, with the source of each.',
    request: v.strictObject({}),
    result: list(
      v.object({
        name: v.string(),
        value: v.exactOptional(v.unknown()),
        origin: v.string(),
        help: v.string(),
      }),
    ),
  }),
}

/** Schemas with a name in the description. */
export const STORE_SCHEMAS = {
  StoreUsage: UsageSchema,
  FsckReport: FsckReportSchema,
  HostReport: HostReportSchema,
  NodeReport: NodeReportSchema,
}
