import { existsSync } from 'node:fs'
import { copyFile } from 'node:fs/promises'
import { join } from 'node:path'
import { LoamError } from '../errors/index.ts'
import { STANDARD_OUTPUT } from '../layers/index.ts'
import type { Parts } from './parts.ts'

/** Writes what a snapshot changes on its parent as the tar of a layer. @throws SNAPSHOT_NOT_FOUND, SNAPSHOT_KIND, OUTPUT_EXISTS */
export async function writeDiff(
  { metadata, paths, layers }: Parts,
  key: string,
  output: string,
  signal: AbortSignal | undefined,
): Promise<void> {
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
  if (snapshot.diffId === undefined) {
    await layers.packFolder(join(paths.snapshots, String(snapshot.id), 'fs'), output, {
      as: 'overlay',
      signal,
    })
  } else {
    await copyFile(layers.tarPath(snapshot.diffId), output === STANDARD_OUTPUT ? '/dev/stdout' : output)
  }
}
