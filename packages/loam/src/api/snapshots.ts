import * as v from 'valibot'
import type { SnapshotAdoption } from '../app/index.ts'
import type { FetchedContent } from '../images/index.ts'
import type {
  SnapshotImportReport,
  SnapshotInfo,
  SnapshotMount,
  SnapshotUsage,
} from '../snapshotter/index.ts'
import { fetchFields, imageFields, PullEventSchema } from './fetch.ts'
import { commitFields, PulledImageSchema } from './images.ts'
import { download, operation } from './operation.ts'
import {
  count,
  fileMode,
  diffId,
  digest,
  failure,
  list,
  matching,
  orUndefined,
  path,
  text,
} from './schema.ts'

const kind = v.picklist(['view', 'active', 'committed'])
const labels = v.record(v.string(), v.string())
const InfoSchema = matching<SnapshotInfo>()(
  v.object({
    kind,
    name: v.string(),
    parent: v.string(),
    diffId: orUndefined(diffId),
    labels,
    createdUs: count,
    updatedUs: count,
  }),
)
const UsageSchema = matching<SnapshotUsage>()(v.object({ sizeBytes: count, inodes: count }))
const MountSchema = matching<SnapshotMount>()(
  v.object({
    type: v.picklist(['bind', 'overlay', 'erofs', 'format/overlay']),
    source: v.string(),
    options: list(v.string()),
  }),
)
const ImportReportSchema = matching<SnapshotImportReport>()(
  v.object({
    snapshots: list(v.object({ name: v.string(), parent: v.string(), kind })),
    failed: list(failure),
    notes: list(v.string()),
  }),
)

const AdoptionSchema = matching<SnapshotAdoption>()(
  v.object({ digest, layers: count, snapshots: list(v.string()) }),
)

const FetchedContentSchema = matching<FetchedContent>()(
  v.object({
    namespace: v.string(),
    name: v.string(),
    digest,
    blobs: list(
      v.object({
        digest,
        sizeBytes: count,
        from: v.picklist(['exists', 'store', 'retained', 'source']),
      }),
    ),
  }),
)

const key = v.strictObject({ key: v.string() })
const creation = v.strictObject({
  key: v.string(),
  /** Name of a committed snapshot; empty for none. */
  parent: v.optional(v.string()),
  labels: v.optional(labels),
})

/** Operations on snapshots, as in containerd. */
export const SNAPSHOTS = {
  'snapshots.list': operation({
    method: 'GET',
    path: '/v1/snapshots',
    summary: "List snapshots that match one of the filters, in containerd's syntax.",
    request: v.strictObject({ filters: v.optional(list(v.string())) }),
    result: list(InfoSchema),
  }),
  'snapshots.stat': operation({
    method: 'GET',
    path: '/v1/snapshots/stat',
    summary: 'Find a snapshot by its key or name.',
    request: key,
    result: InfoSchema,
  }),
  'snapshots.usage': operation({
    method: 'GET',
    path: '/v1/snapshots/usage',
    summary: 'Measure the disk usage of a snapshot without its parents.',
    request: key,
    result: UsageSchema,
  }),
  'snapshots.mounts': operation({
    method: 'GET',
    path: '/v1/snapshots/mounts',
    summary: 'Return the mounts of an active snapshot or a view.',
    request: key,
    result: list(MountSchema),
  }),
  'snapshots.prepare': operation({
    method: 'POST',
    path: '/v1/snapshots/prepare',
    summary: 'Create an active snapshot.',
    request: creation,
    result: list(MountSchema),
  }),
  'snapshots.view': operation({
    method: 'POST',
    path: '/v1/snapshots/view',
    summary: 'Create a read-only snapshot.',
    request: creation,
    result: list(MountSchema),
  }),
  'snapshots.commit': operation({
    method: 'POST',
    path: '/v1/snapshots/commit',
    summary: 'Turn an active snapshot into a committed one.',
    request: v.strictObject({
      name: v.string(),
      key: v.string(),
      labels: v.optional(labels),
      rebase: v.optional(v.string()),
    }),
    result: v.object({}),
  }),
  'snapshots.update': operation({
    method: 'POST',
    path: '/v1/snapshots/update',
    summary: 'Change labels of a snapshot: all of them, or those that field paths name.',
    request: v.strictObject({ name: v.string(), labels, fieldPaths: v.optional(list(v.string())) }),
    result: InfoSchema,
  }),
  'snapshots.remove': operation({
    method: 'DELETE',
    path: '/v1/snapshots',
    summary: 'Remove a snapshot without children.',
    request: key,
    result: v.object({}),
  }),
  'snapshots.cleanup': operation({
    method: 'POST',
    path: '/v1/snapshots/cleanup',
    summary: 'Wait until the files of removed snapshots are removed.',
    request: v.strictObject({}),
    result: v.object({}),
  }),
  'snapshots.diff': operation({
    method: 'POST',
    path: '/v1/snapshots/diff',
    summary: 'Write the changes of a snapshot to its parent as a layer, to a new file.',
    request: v.strictObject({ key: v.string(), output: path, mode: v.optional(fileMode) }),
    result: v.object({}),
    event: PullEventSchema,
  }),
  'snapshots.commitImage': operation({
    method: 'POST',
    path: '/v1/snapshots/commit-image',
    summary: 'Create an image from a snapshot with all its layers, under a name.',
    request: v.strictObject({ ...commitFields, key: text }),
    result: PulledImageSchema,
    event: PullEventSchema,
  }),
  'snapshots.adopt': operation({
    method: 'POST',
    path: '/v1/snapshots/adopt',
    summary:
      'Turn the snapshots that clients have unpacked the layers of an image to into layers of the store.',
    request: v.strictObject({ ...imageFields, image: text }),
    result: AdoptionSchema,
    event: PullEventSchema,
  }),
  'snapshots.fetchContent': operation({
    method: 'POST',
    path: '/v1/snapshots/fetch-content',
    summary: 'Bring the missing blobs of an image of containerd into its content store.',
    request: v.strictObject({ ...fetchFields, image: text, namespace: v.optional(text) }),
    result: list(FetchedContentSchema),
    event: PullEventSchema,
  }),
  'snapshots.import': operation({
    method: 'POST',
    path: '/v1/snapshots/import',
    summary: "Copy the snapshots of containerd's overlay snapshotter of early 2017.",
    request: v.strictObject({ directory: path }),
    result: ImportReportSchema,
  }),
}

/** Streams of snapshots. */
export const SNAPSHOT_DOWNLOADS = {
  'snapshots.download': download({
    method: 'GET',
    mediaType: 'application/x-tar',
    path: '/v1/snapshots/diff',
    summary: 'Send the changes of a snapshot to its parent as a layer: a tar with whiteouts.',
    request: key,
  }),
}

/** Schemas with a name in the description. */
export const SNAPSHOT_SCHEMAS = {
  SnapshotInfo: InfoSchema,
  SnapshotUsage: UsageSchema,
  SnapshotMount: MountSchema,
  SnapshotImportReport: ImportReportSchema,
}
