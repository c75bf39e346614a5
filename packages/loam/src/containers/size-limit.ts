import { MIN_SIZE_BYTES } from '../backends/index.ts'
import { LoamError } from '../errors/index.ts'
import type { ProvisionImageOptions } from './requests.ts'

/** Returns the requested limit of a writable layer. @throws USAGE for one that cannot be kept */
export function checkSize({
  sizeBytes,
  isReadOnly,
}: Pick<ProvisionImageOptions, 'sizeBytes' | 'isReadOnly'>): number | undefined {
  if (sizeBytes === undefined) return undefined
  if (!Number.isSafeInteger(sizeBytes) || sizeBytes < MIN_SIZE_BYTES)
    throw new LoamError('USAGE', `limit a writable layer to ${sizeBytes} bytes: at least 2 MiB are needed`)
  if (isReadOnly === true)
    throw new LoamError('USAGE', 'limit a writable layer: a read-only root filesystem has none')
  return sizeBytes
}
