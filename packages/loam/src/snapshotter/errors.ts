import { LoamError } from '../errors/index.ts'

/** Returns the error for a key without a snapshot. */
export function notFound(key: string): LoamError {
  return new LoamError('SNAPSHOT_NOT_FOUND', `find snapshot ${quote(key)}: no such snapshot`)
}

/** Returns the error for a key that exists. */
export function exists(key: string): LoamError {
  return new LoamError('SNAPSHOT_EXISTS', `create snapshot ${quote(key)}: a snapshot with this name exists`)
}

/** Returns the error for a snapshot with a limit whose files cannot all be copied. */
export function notCopied(key: string, leftOut: readonly string[]): LoamError {
  return new LoamError(
    'SNAPSHOT_INVALID',
    `commit snapshot ${quote(key)}: a copy would not have all of it: ${leftOut.join('; ')}`,
    { hint: 'Remove or unmount these files. A snapshot without a limit is committed without a copy.' },
  )
}

/** Returns a key, which may be any text, for a message. */
export function quote(key: string): string {
  return JSON.stringify(key.slice(0, 300))
}
