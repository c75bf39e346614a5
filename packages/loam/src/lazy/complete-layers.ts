import { statSync } from 'node:fs'
import { artifactPath } from '../content/index.ts'
import type { HandlerOptions } from './handler-options.ts'

/** Returns whether a file is the tar of a layer that is complete: reads of it may still be on their way when its mark goes. */
export function isOfCompleteLayer(
  inode: number,
  { metadata, paths }: Pick<HandlerOptions, 'metadata' | 'paths'>,
): boolean {
  const complete = metadata.layers.list().filter(({ data }) => data === 'complete')
  return complete.some(
    ({ diffId }) => statSync(artifactPath(paths, diffId, 'tar'), { throwIfNoEntry: false })?.ino === inode,
  )
}
