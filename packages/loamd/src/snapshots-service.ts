import { create } from '@bufbuild/protobuf'
import { EmptySchema, type Timestamp, TimestampSchema } from '@bufbuild/protobuf/wkt'
import type { UntypedServiceImplementation } from '@grpc/grpc-js'
import type { SnapshotInfo, SnapshotMount, Snapshotter } from 'loamfs'
import { type Mount, MountSchema } from '../gen/mount_pb.js'
import {
  type Info,
  InfoSchema,
  Kind,
  ListSnapshotsResponseSchema,
  MountsResponseSchema,
  PrepareSnapshotResponseSchema,
  Snapshots,
  StatSnapshotResponseSchema,
  UpdateSnapshotResponseSchema,
  UsageResponseSchema,
  ViewSnapshotResponseSchema,
} from '../gen/snapshots_pb.js'
import { type CallObserver, streaming, unary } from './service.ts'

/** The same number as in a message of containerd's own server. */
const LIST_BATCH = 100

const KINDS: Readonly<Record<SnapshotInfo['kind'], Kind>> = {
  view: Kind.VIEW,
  active: Kind.ACTIVE,
  committed: Kind.COMMITTED,
}

/** Answers containerd's snapshots API. Ignores the name of the snapshotter in each request, which is containerd's own. */
export function snapshotsService(
  snapshotter: Snapshotter,
  calls: CallObserver,
): UntypedServiceImplementation {
  const { method } = Snapshots
  return {
    prepare: unary(method.prepare, calls, async ({ key, parent, labels }) =>
      create(PrepareSnapshotResponseSchema, {
        mounts: (await snapshotter.prepare(key, parent, labels)).map(toMount),
      }),
    ),
    view: unary(method.view, calls, async ({ key, parent, labels }) =>
      create(ViewSnapshotResponseSchema, {
        mounts: (await snapshotter.view(key, parent, labels)).map(toMount),
      }),
    ),
    mounts: unary(method.mounts, calls, async ({ key }) =>
      create(MountsResponseSchema, { mounts: (await snapshotter.mounts(key)).map(toMount) }),
    ),
    commit: unary(method.commit, calls, async ({ name, key, labels, parent: rebase }) => {
      await snapshotter.commit({ name, key, labels, rebase })
      return create(EmptySchema)
    }),
    remove: unary(method.remove, calls, async ({ key }) => {
      await snapshotter.remove(key)
      return create(EmptySchema)
    }),
    stat: unary(method.stat, calls, async ({ key }) =>
      create(StatSnapshotResponseSchema, { info: toInfo(await snapshotter.stat(key)) }),
    ),
    update: unary(method.update, calls, async ({ info, updateMask }) => {
      const updated = await snapshotter.update(info?.name ?? '', info?.labels ?? {}, updateMask?.paths ?? [])
      return create(UpdateSnapshotResponseSchema, { info: toInfo(updated) })
    }),
    usage: unary(method.usage, calls, async ({ key }) => {
      const { sizeBytes, inodes } = await snapshotter.usage(key)
      return create(UsageResponseSchema, { size: BigInt(sizeBytes), inodes: BigInt(inodes) })
    }),
    cleanup: unary(method.cleanup, calls, async () => {
      await snapshotter.cleanup()
      return create(EmptySchema)
    }),
    list: streaming(method.list, calls, async function* list({ filters }) {
      let info: Info[] = []
      for await (const snapshot of snapshotter.list(filters)) {
        info.push(toInfo(snapshot))
        if (info.length < LIST_BATCH) continue
        yield create(ListSnapshotsResponseSchema, { info })
        info = []
      }
      if (info.length > 0) yield create(ListSnapshotsResponseSchema, { info })
    }),
  }
}

function toInfo({ name, parent, kind, labels, createdUs, updatedUs }: SnapshotInfo): Info {
  return create(InfoSchema, {
    name,
    parent,
    kind: KINDS[kind],
    labels,
    createdAt: toTimestamp(createdUs),
    updatedAt: toTimestamp(updatedUs),
  })
}

function toTimestamp(us: number): Timestamp {
  const seconds = Math.floor(us / 1_000_000)
  return create(TimestampSchema, { seconds: BigInt(seconds), nanos: (us - seconds * 1_000_000) * 1000 })
}

function toMount({ type, source, options }: SnapshotMount): Mount {
  return create(MountSchema, { type, source, options: [...options] })
}
