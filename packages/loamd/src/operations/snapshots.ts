import type { Loam, Snapshotter } from 'loamfs'
import type { Downloads, RequestOf } from 'loamfs/internal'
import {
  type Actions,
  checkFile,
  checkPlace,
  type Context,
  toFetchOptions,
  toImageOptions,
} from './context.ts'

const snapshotters = new WeakMap<Loam, Snapshotter>()

/** Operations on snapshots. */
export const SNAPSHOT_ACTIONS: Actions<'snapshots'> = {
  'snapshots.list': async ({ loam }, { filters = [] }) => Array.fromAsync(snapshotterOf(loam).list(filters)),
  'snapshots.stat': async ({ loam }, { key }) => snapshotterOf(loam).stat(key),
  'snapshots.usage': async ({ loam }, { key }) => snapshotterOf(loam).usage(key),
  'snapshots.mounts': async ({ loam }, { key }) => snapshotterOf(loam).mounts(key),
  'snapshots.prepare': async ({ loam }, { key, parent = '', labels = {} }) =>
    snapshotterOf(loam).prepare(key, parent, labels),
  'snapshots.view': async ({ loam }, { key, parent = '', labels = {} }) =>
    snapshotterOf(loam).view(key, parent, labels),
  'snapshots.commit': async ({ loam }, { name, key, labels = {}, rebase = '' }) => {
    await snapshotterOf(loam).commit({ name, key, labels, rebase })
    return {}
  },
  'snapshots.update': async ({ loam }, { name, labels, fieldPaths = [] }) =>
    snapshotterOf(loam).update(name, labels, fieldPaths),
  'snapshots.remove': async ({ loam }, { key }) => {
    await snapshotterOf(loam).remove(key)
    return {}
  },
  'snapshots.cleanup': async ({ loam }) => {
    await snapshotterOf(loam).cleanup()
    return {}
  },
  'snapshots.diff': async ({ loam, signal, onEvent }, { key, output, mode }) => {
    await loam.snapshots.diff(key, await checkFile(output), { mode, signal, onEvent })
    return {}
  },
  'snapshots.commitImage': async (
    context,
    { key, name, base, replace, changes, message, author, createdAtMs, ...request },
  ) =>
    context.loam.snapshots.commit(key, name, {
      ...toImageOptions(context, request),
      base: await checkPlace(base),
      ...{ replace, changes, message, author, createdAtMs },
    }),
  'snapshots.adopt': async (context, { image, ...request }) =>
    context.loam.snapshots.adopt(await checkPlace(image), toImageOptions(context, request)),
  'snapshots.fetchContent': async (context, { image, namespace, ...request }) =>
    context.loam.snapshots.fetchContent(image, { ...toFetchOptions(context, request), namespace }),
  'snapshots.import': async ({ loam, signal }, { directory }) => loam.snapshots.import(directory, { signal }),
}

/** Writes the changes of a snapshot to a pipe. */
export async function downloadSnapshot(
  { loam, signal }: Context<unknown>,
  { key }: RequestOf<Downloads['snapshots.download']>,
  output: string,
): Promise<undefined> {
  await loam.snapshots.diff(key, output, { signal })
}

/** One for each store, since the store keeps all that were opened. */
function snapshotterOf(loam: Loam): Snapshotter {
  const known = snapshotters.get(loam)
  if (known !== undefined) return known
  const made = loam.snapshots.open()
  snapshotters.set(loam, made)
  return made
}
