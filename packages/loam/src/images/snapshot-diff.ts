import { LoamError } from '../errors/index.ts'
import { writeOutput } from '../exports/index.ts'
import { type OutputTarget, readBootId } from '../linux/index.ts'
import { type SnapshotRecord, snapshotKey } from '../metadata/index.ts'
import { ownersOfFiles, requireIntact, snapshotFiles } from '../snapshotter/index.ts'
import type { PullEvent } from '../stores/index.ts'
import { readSnapshot } from './commit-image.ts'
import type { ImageServices } from './services.ts'

/** How to write a snapshot's changes. */
export interface DiffOptions {
  /** Called with progress and notes for the user. It must not throw. */
  readonly onEvent?: ((event: PullEvent) => void) | undefined
  /** Permissions of the file; undefined for 0600. */
  readonly mode?: number | undefined
  /** Cancels the call, which then fails with CANCELED. No file is left. */
  readonly signal?: AbortSignal | undefined
}

/**
 * Writes the changes of a snapshot to its parent as the tar of a layer, to a new file or by `writeOutput`. A failure leaves no file.
 * @throws SNAPSHOT_NOT_FOUND, SNAPSHOT_KIND, OUTPUT_EXISTS, LAYER_UNSUPPORTED for a file that no layer can hold
 */
export async function writeDiff(
  services: Pick<ImageServices, 'paths' | 'layers' | 'metadata' | 'cwd'>,
  key: string,
  output: string,
  options: DiffOptions,
): Promise<void> {
  const { metadata, cwd, paths } = services
  const snapshot = metadata.snapshots.find(snapshotKey(key))
  if (snapshot === undefined) {
    throw new LoamError('SNAPSHOT_NOT_FOUND', `diff ${JSON.stringify(key)}: no such snapshot`)
  }
  if (snapshot.kind === 'view')
    throw new LoamError('SNAPSHOT_KIND', `diff ${JSON.stringify(key)}: a view has no changes`)
  requireIntact(paths, snapshot, { attempted: 'diff', bootId: readBootId() })
  const { mode, signal } = options
  await writeOutput(output, { cwd, mayReplace: () => false, force: false, mode, signal }, async (target) => {
    await readSnapshot(services, [snapshot], async () => write(services, snapshot, target, options))
  })
}

async function write(
  { paths, layers }: Pick<ImageServices, 'paths' | 'layers'>,
  snapshot: SnapshotRecord,
  target: OutputTarget,
  { onEvent, signal }: DiffOptions,
): Promise<void> {
  const { diffId = snapshot.appliedDiffId } = snapshot
  if (diffId !== undefined) {
    await layers.complete([diffId], signal)
    await layers.trees.copyTar(diffId, target, signal)
    return
  }
  const folder = snapshotFiles(paths, snapshot)
  const { leftOut } = await layers.trees.packFolder(folder, target, {
    as: 'overlay',
    idMapping: ownersOfFiles(folder, snapshot, snapshot),
    signal,
  })
  for (const text of leftOut) onEvent?.({ kind: 'note', text })
}
