import { existsSync, renameSync } from 'node:fs'
import { copyFile } from 'node:fs/promises'
import { join } from 'node:path'
import { LoamError, toLoamError } from '../errors/index.ts'
import { STANDARD_OUTPUT } from '../layers/index.ts'
import { removeTree } from '../linux/index.ts'
import type { SnapshotRecord } from '../metadata/index.ts'
import type { PullEvent } from '../stores/index.ts'
import type { Parts } from './parts.ts'

export interface DiffOptions {
  readonly onEvent?: ((event: PullEvent) => void) | undefined
  readonly signal?: AbortSignal | undefined
}

/**
 * Writes what a snapshot changes on its parent as the tar of a layer. A failure leaves no file.
 * @throws SNAPSHOT_NOT_FOUND, SNAPSHOT_KIND, OUTPUT_EXISTS, LAYER_UNSUPPORTED for what no layer can hold
 */
export async function writeDiff(
  parts: Parts,
  key: string,
  output: string,
  options: DiffOptions,
): Promise<void> {
  const { metadata } = parts
  const snapshot = metadata.snapshots.find(key)
  if (snapshot === undefined) {
    throw new LoamError(
      'SNAPSHOT_NOT_FOUND',
      `diff ${JSON.stringify(key)}: there is no snapshot of that name`,
    )
  }
  if (snapshot.kind === 'view')
    throw new LoamError('SNAPSHOT_KIND', `diff ${JSON.stringify(key)}: a view changes nothing`)
  if (output !== STANDARD_OUTPUT && existsSync(output)) {
    throw new LoamError('OUTPUT_EXISTS', `write ${output}: there is something of that name`)
  }
  if (output === STANDARD_OUTPUT) {
    await write(parts, snapshot, output, options)
    return
  }
  const unfinished = `${output}.loam-${process.pid}`
  try {
    await write(parts, snapshot, unfinished, options)
    renameSync(unfinished, output)
  } catch (error) {
    throw toLoamError(error, `write ${output}`)
  } finally {
    removeTree(unfinished)
  }
}

async function write(
  { paths, layers }: Parts,
  { id, diffId }: SnapshotRecord,
  target: string,
  { onEvent, signal }: DiffOptions,
): Promise<void> {
  if (diffId !== undefined) {
    await copyFile(layers.tarPath(diffId), target === STANDARD_OUTPUT ? '/dev/stdout' : target)
    return
  }
  const folder = join(paths.snapshots, String(id), 'fs')
  const { leftOut } = await layers.packFolder(folder, target, { as: 'overlay', signal })
  for (const text of leftOut) onEvent?.({ kind: 'note', text })
}
